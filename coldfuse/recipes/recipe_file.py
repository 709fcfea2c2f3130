"""A whole recipe as a file says it: which models, on which base, and what is done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from coldfuse.errors import UserInputError
from coldfuse.fusion.settings import WEIGHT, Layer, Setting, Settings, layers_of


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """What a recipe file says."""

    method: str
    """Steps, as `--method` takes them."""
    base: str
    models: tuple[str, ...]
    settings: tuple[Settings, ...]
    """Each model's own weights and parameters."""
    shared: Settings = field(default_factory=dict)
    """What holds where a model's own settings say nothing."""
    seed: str | None = None
    """What random masks depend on; None: the command's own."""
    dtype: str | None = None
    """Dtype that the base must have, as the result has it; None: any."""
    num_layers: int | None = None
    """Number of layers that the base must have; None: any."""
    required: str = ""
    """What every model must have in every tensor, by its name in the file: its weight, if that is not ""."""
    is_lenient: bool = False
    """Whether filters that match nothing are only told."""
    notes: tuple[str, ...] = ()
    """What the file says that has no effect on the result."""


def fit(recipe: RecipeFile, tensors: Mapping[str, str], where: str) -> RecipeFile:
    """Hold a recipe against its base.

    Args:
        recipe: What was read.
        tensors: Dtypes of the base's tensors that are fused, by name.
        where: The recipe's file, for people.

    Returns:
        The recipe without filters that match nothing, if it is lenient; they are in its notes.

    Raises:
        UserInputError: The base has another dtype or number of layers, or a tensor lacks a weight.
    """
    layers = layers_of(tensors)
    if recipe.num_layers is not None:
        count = max((layer.count for layer in layers.values() if layer), default=0)
        if recipe.num_layers != count:
            raise UserInputError(
                f"{where}: slices: layer_range ends at {recipe.num_layers}, and the base has {count} layers; "
                "coldfuse fuses whole models: take all layers, in their order"
            )
    if recipe.dtype is not None and (other := sorted(set(tensors.values()) - {recipe.dtype})):
        raise UserInputError(
            f"{where}: the result is to be {recipe.dtype}, and the base is {', '.join(other)}, which coldfuse keeps; "
            "convert the base, or leave dtype and out_dtype out"
        )
    notes = list(recipe.notes)
    if recipe.is_lenient:
        names = list(tensors)
        settings = tuple(_matched(recipe, own, names, notes) for own in recipe.settings)
        recipe = replace(recipe, settings=settings, shared=_matched(recipe, recipe.shared, names, notes))
    if recipe.required:
        _require_weights(recipe, layers, where)
    return replace(recipe, notes=tuple(dict.fromkeys(notes)))


def named_once(models: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the models. Raises `UserInputError` if one is named twice."""
    twice = next((name for name in models if models.count(name) > 1), None)
    if twice is not None:
        raise UserInputError(f"{where}: {twice} is named twice; name each model once")
    return tuple(models)


def _matched(recipe: RecipeFile, settings: Settings, tensors: Sequence[str], notes: list[str]) -> dict[str, Setting]:
    """Return settings without rules that match nothing, which are told."""
    found = {}
    for name, setting in settings.items():
        rules = tuple(rule for rule in setting.rules if not rule.unmatched(tensors))
        key = recipe.required if name == WEIGHT and recipe.required else name.rpartition(".")[2]
        notes += [f"{key}: filter {part!r} matches no tensor that is fused" for part in setting.unmatched(tensors)]
        if rules:
            found[name] = Setting(rules)
    return found


def _require_weights(recipe: RecipeFile, layers: Mapping[str, Layer | None], where: str) -> None:
    for model, own in zip(recipe.models, recipe.settings, strict=True):
        chain = Setting(tuple(rule for said in (own, recipe.shared) if WEIGHT in said for rule in said[WEIGHT].rules))
        missing = next((tensor for tensor, layer in layers.items() if chain.at(tensor, layer) is None), None)
        if missing is not None:
            raise UserInputError(
                f"{where}: {model}: no {recipe.required} for tensor {missing}; add one without a filter"
            )
