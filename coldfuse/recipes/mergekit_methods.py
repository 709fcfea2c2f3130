"""What mergekit's merge methods are in coldfuse's words, each read in mergekit 0.1.5's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from coldfuse.errors import UserInputError
from coldfuse.fusion.settings import WEIGHT, Rule, Setting, Settings
from coldfuse.recipes.recipe_file import RecipeFile


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and its parameters."""

    name: str
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a recipe says, before its method is looked at."""

    where: str
    base: str | None
    models: tuple[Model, ...]
    """All models, the base among them if one is named."""
    shared: Settings
    notes: list[str] = field(default_factory=list)

    @property
    def others(self) -> tuple[Model, ...]:
        """All models but the base."""
        return tuple(model for model in self.models if model.name != self.base)

    def required_base(self, method: str) -> str:
        """Return the base. Raises `UserInputError` if none is named."""
        if self.base is None:
            raise UserInputError(f"{self.where}: {method}: expected a base_model, and there is none")
        return self.base

    def number(self, name: str, usual: float) -> float:
        """Return a shared parameter that is one number. Raises `UserInputError` if it is not."""
        if name not in self.shared:
            return usual
        match self.shared[name].rules[0]:
            case Rule((value,), "", None):
                return value
        raise UserInputError(f"{self.where}: {name}: expected one value for all tensors")

    def flag(self, name: str, *, usual: bool) -> bool:
        """Return a shared parameter that is true or false. Raises `UserInputError` if it is neither."""
        value = self.number(name, float(usual))
        if value not in (0, 1):
            raise UserInputError(f"{self.where}: {name}: expected true or false, got {value:g}")
        return bool(value)


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """One of mergekit's methods."""

    name: str
    by_model: tuple[str, ...] = ()
    """Parameters that mergekit looks up for each model."""
    shared: tuple[str, ...] = ()
    """Parameters that mergekit looks up for all models together."""
    make: Callable[[Given, str], RecipeFile]

    def translate(self, given: Given) -> RecipeFile:
        """Return the same in coldfuse's words. Raises `UserInputError` for what coldfuse does not compute."""
        return self.make(given, self.name)


def _recipe(given: Given, method: str, base: str, models: tuple[Model, ...], **renamed: str) -> RecipeFile:
    """Return a recipe with parameters of models (and `renamed` shared ones), by coldfuse's names for mergekit's."""
    if not models:
        raise UserInputError(f"{given.where}: expected a model beside the base, and there is none")
    names = {WEIGHT: WEIGHT, **renamed} if "weight" not in renamed else renamed

    def of(settings: Settings) -> dict[str, Setting]:
        return {names[name]: setting for name, setting in settings.items() if names.get(name)}

    return RecipeFile(
        method=method, base=base, models=tuple(model.name for model in models),
        settings=tuple(of(model.settings) for model in models), shared=of(given.shared),
    )  # fmt: skip


def _linear(given: Given, name: str) -> RecipeFile:  # noqa: ARG001 - as all methods are called
    line = "weighted-mean" if given.flag("normalize", usual=True) else "weighted-mean(normalize=false)"
    made = _recipe(given, line, given.base or given.models[0].name, given.models)
    return replace(made, required=WEIGHT)


def _arithmetic(given: Given, name: str, *, sparse: str, elects: bool, normalizes: bool) -> RecipeFile:
    """Task arithmetic after what makes deltas sparse, with or without an election of signs."""
    base = given.required_base(name)
    divides = given.flag("normalize", usual=normalizes)
    rescales = given.flag("rescale", usual=sparse in ("dare", "della"))
    if rescales and sparse not in ("dare", "della"):
        raise UserInputError(f"{given.where}: rescale: true is taken for dare and della alone, not for {name}")
    rescale = str(rescales).lower()
    steps = {
        "": "",
        "ties": "",
        "dare": f"dare(rescale={rescale}, variant=mergekit) then ",
        "della": f"della(density=1, rescale={rescale}, variant=mergekit) then ",
        "breadcrumbs": "breadcrumbs(variant=mergekit) then ",
    }
    if elects:
        combiner, last = f"ties(density=1, merge={'mean' if divides else 'sum'}, variant=mergekit)", "ties"
    else:
        combiner, last = f"task-arithmetic(scale=1{', normalize=true' if divides else ''})", "task-arithmetic"
    density = {"density": f"{sparse}.density"} if sparse else {}
    more = {"breadcrumbs": {"gamma": "breadcrumbs.gamma"}, "della": {"epsilon": "della.epsilon"}}.get(sparse, {})
    if sparse in ("dare", "della"):
        given.notes.append("random masks are coldfuse's own (--seed): the same probabilities, other elements")
    named = {**density, **more, "lambda": f"{last}.scale"}
    made = _recipe(given, steps[sparse] + combiner, base, given.others, **named)
    return replace(_without_shared_of_models(made, f"{last}.scale"), required=WEIGHT)


def _slerp(given: Given, name: str) -> RecipeFile:
    base = given.required_base(name)
    if len(given.others) != 1:
        raise UserInputError(f"{given.where}: slerp: expected the base and one other model, got {len(given.models)}")
    if "t" not in given.shared:
        raise UserInputError(f"{given.where}: slerp: expected t under parameters, and there is none")
    place = given.shared["t"]
    rest = Setting(tuple(_one_minus(rule) for rule in place.rules if isinstance(rule, Rule)))
    return RecipeFile(
        method="slerp", base=base, models=(base, given.others[0].name),
        settings=({WEIGHT: rest}, {WEIGHT: place}), required="t",
    )  # fmt: skip


def _nuslerp(given: Given, name: str) -> RecipeFile:
    if len(given.others) != 2:
        raise UserInputError(f"{given.where}: {name}: expected two models beside the base, got {len(given.others)}")
    is_flat = given.flag("nuslerp_flatten", usual=True)
    if not is_flat and (given.base is None or given.flag("nuslerp_row_wise", usual=False)):
        raise UserInputError(f"{given.where}: nuslerp_flatten: false is taken with a base_model, and not row-wise")
    about = "nuslerp" if is_flat else "nuslerp-rows"
    line, base = (about, given.base) if given.base else ("slerp(straight=1)", given.others[0].name)
    return replace(_recipe(given, line, base, given.others), required=WEIGHT)


def _multislerp(given: Given, name: str) -> RecipeFile:  # noqa: ARG001 - as all methods are called
    if not given.flag("normalize_weights", usual=True):
        raise UserInputError(f"{given.where}: normalize_weights: false is not taken")
    if "eps" in given.shared:
        given.notes.append("eps has no effect: coldfuse divides by lengths as they are")
    # About zero it is where the Karcher mean begins.
    zero = "karcher(max_iterations=0)", given.models[0].name
    line, base = ("multi-slerp", given.base) if given.base else zero
    return replace(_recipe(given, line, base, given.others), required=WEIGHT)


def _karcher(given: Given, name: str) -> RecipeFile:  # noqa: ARG001 - as all methods are called
    line = f"karcher(max_iterations={given.number('max_iter', 10):g}, tolerance={given.number('tol', 1e-5):g})"
    return _recipe(given, line, given.base or given.models[0].name, given.models, weight="")


def _model_stock(given: Given, name: str) -> RecipeFile:
    if given.flag("filter_wise", usual=False):
        raise UserInputError(f"{given.where}: filter_wise: true is not taken")
    base = given.required_base(name)
    if len(given.others) < 2:
        raise UserInputError(
            f"{given.where}: model_stock: expected two models beside the base, got {len(given.others)}"
        )
    return _recipe(given, "model-stock", base, given.others, weight="")


def _sce(given: Given, name: str) -> RecipeFile:
    base = given.required_base(name)
    made = _recipe(given, "sce(variant=mergekit)", base, given.others, weight="", select_topk="sce.select_topk")
    return _without_shared_of_models(made, "sce.select_topk")


def _nearswap(given: Given, name: str) -> RecipeFile:
    base = given.required_base(name)
    if len(given.others) != 1:
        raise UserInputError(f"{given.where}: nearswap: expected the base and one other model, got {len(given.models)}")
    if "t" not in given.shared:
        raise UserInputError(f"{given.where}: nearswap: expected t under parameters, and there is none")
    made = _recipe(given, "nearswap then mean", base, given.others, weight="", t="nearswap.t")
    return _without_shared_of_models(made, "nearswap.t")


def _without_shared_of_models(made: RecipeFile, name: str) -> RecipeFile:
    """Leave out what models say of a parameter that mergekit looks up for all of them together."""
    settings = tuple({key: value for key, value in own.items() if key != name} for own in made.settings)
    return replace(made, settings=settings)


def _one_minus(rule: Rule) -> Rule:
    return replace(rule, values=tuple(1 - value for value in rule.values))


def _arithmetics() -> dict[str, MergeMethod]:
    found = {}
    for name, sparse, elects, normalizes in (
        ("task_arithmetic", "", False, False),
        ("ties", "ties", True, True),
        ("dare_ties", "dare", True, False),
        ("dare_linear", "dare", False, False),
        ("breadcrumbs", "breadcrumbs", False, False),
        ("breadcrumbs_ties", "breadcrumbs", True, False),
        ("della", "della", True, True),
        ("della_linear", "della", False, False),
    ):
        more = {"breadcrumbs": ("gamma",), "della": ("epsilon",)}.get(sparse, ())
        found[name] = MergeMethod(
            name=name, by_model=("weight", "density", *more), shared=("int8_mask", "normalize", "rescale", "lambda"),
            make=partial(_arithmetic, sparse=sparse, elects=elects, normalizes=normalizes),
        )  # fmt: skip
    return found


METHODS: Mapping[str, MergeMethod] = {
    "linear": MergeMethod(name="linear", by_model=("weight",), shared=("normalize",), make=_linear),
    **_arithmetics(),
    "slerp": MergeMethod(name="slerp", shared=("t",), make=_slerp),
    "nuslerp": MergeMethod(
        name="nuslerp", by_model=("weight",), shared=("nuslerp_flatten", "nuslerp_row_wise"), make=_nuslerp
    ),
    "multislerp": MergeMethod(
        name="multislerp", by_model=("weight",), shared=("normalize_weights", "eps"), make=_multislerp
    ),
    "karcher": MergeMethod(name="karcher", shared=("max_iter", "tol"), make=_karcher),
    "model_stock": MergeMethod(name="model_stock", shared=("filter_wise",), make=_model_stock),
    "sce": MergeMethod(name="sce", shared=("int8_mask", "select_topk"), make=_sce),
    "nearswap": MergeMethod(name="nearswap", shared=("t",), make=_nearswap),
}
"""mergekit's methods that are taken, by their names there."""

REFUSED = {
    "passthrough": "stacks layers into another architecture, and coldfuse fuses models of one",
    "arcee_fusion": "is no method of coldfuse",
}
"""Why others are not."""
