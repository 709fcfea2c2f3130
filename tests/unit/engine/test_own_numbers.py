"""Weights and parameters by tensor and by model: what the engine makes of them, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from layered_models import make_arrays, place_of, read_arrays, write_arrays

from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, open_fusion
from coldfuse.engine.preview import describe
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.settings import settings_of
from coldfuse.errors import UserInputError
from coldfuse.fusion.in_memory import InMemory
from coldfuse.fusion.settings import Rule, Setting, Settings, Table, always

BASE = make_arrays(0)
MODELS = [make_arrays(seed) for seed in (1, 2, 3)]
GRADIENT = Setting((Rule((0.9, 0.4)),))
BY_NAME = Setting((Rule((0.7,), "mlp"), Rule((0.5,))))
FIRST = {"alice": 1, "bob": 2, "carol": 3}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    arrays = zip(("base", *FIRST), (BASE, *MODELS), strict=True)
    return [write_arrays(tmp_path / name, own) for name, own in arrays]


def by_rule(setting: Setting, tensor: str) -> float:
    """Evaluate one of the two settings above without the code under test."""
    if setting is GRADIENT:
        return 0.9 - 0.5 * place_of(tensor)
    if setting is BY_NAME:
        return 0.7 if "mlp" in tensor else 0.5
    (rule,) = setting.rules
    return rule.values[0] if isinstance(rule, Rule) else 1.0


STEPS = {
    "weighted-mean": ("weight",),
    "task-arithmetic(scale=0.5)": ("weight",),
    "ties(variant=mergekit)": ("weight", "density"),
    "trim(variant=mergekit) then mean": ("density",),
    "dare then mean": ("drop",),
    "dare(variant=mergekit) then mean": ("drop",),
    "dare then ties(density=1)": ("dare.density",),
    "della(epsilon=0.1) then mean": ("density",),
    "della(epsilon=0.1, variant=mergekit) then mean": ("density",),
    "breadcrumbs then mean": ("density",),
    "breadcrumbs(variant=mergekit) then mean": ("density",),
    "nearswap then mean": ("t",),
    "karcher": ("weight",),
    "multi-slerp": ("weight",),
    "geometric-median": ("weight",),
}


@pytest.mark.parametrize("method", STEPS)
def test_what_the_engine_makes_is_the_formula_with_each_tensors_numbers(
    tmp_path: Path, folders: list[Path], method: str
) -> None:
    recipe = read_recipe(method)
    settings: list[Settings] = [dict.fromkeys(STEPS[method], setting) for setting in (GRADIENT, BY_NAME, always(0.6))]
    more = {"settings": settings}
    fuse(folders[0], folders[1:], tmp_path / "out", method, **more)
    order = open_fusion(FolderFusion(base=folders[0], models=folders[1:], out=tmp_path, recipe=recipe, **more))
    at = [FIRST[Path(item.path).name] - 1 for item in order.inputs]

    def numbers(name: str, tensor: str) -> list[float]:
        return [by_rule(settings[index][name], tensor) for index in at]

    own: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for name in STEPS[method]:
        for tensor in BASE if name != "weight" else ():
            turned = 1 - np.array(numbers(name, tensor)) if name == "dare.density" else np.array(numbers(name, tensor))
            own[tensor, 0] = {"drop" if name == "dare.density" else name: turned}
    # The variant's own value, which keeps everything, would have nothing measured.
    params = {name: "0.5" for name in STEPS[method] if "mergekit" in method and name != "weight"}
    expected = InMemory(
        recipe=read_recipe(method, params=params),
        base=BASE,
        deltas=[{name: MODELS[i][name] - BASE[name] for name in BASE} for i in at],
        tensor_weights={t: numbers("weight", t) for t in BASE} if "weight" in STEPS[method] else {},
        own=own,
        seed="0",
        names=order.fusion.names or None,
    ).fuse()
    for tensor, array in read_arrays(tmp_path / "out").items():
        np.testing.assert_allclose(array, BASE[tensor] + expected[tensor], rtol=1e-12, atol=1e-14, err_msg=tensor)


def test_numbers_follow_their_models_whatever_the_order_and_the_threads(
    tmp_path: Path, folders: list[Path], small_parts: int
) -> None:
    settings = [{"weight": GRADIENT, "density": always(0.3)}, {"weight": BY_NAME, "density": GRADIENT}, {}]
    digests = set()
    for number, order in enumerate(permutations(range(3))):
        digests.add(
            fuse(
                folders[0], [folders[1 + i] for i in order], tmp_path / f"o{number}", "ties(variant=mergekit)",
                settings=[settings[i] for i in order], executor=ThreadExecutor(1 + number % 3),
            )
        )  # fmt: skip
    assert len(digests) == 1


def test_twins_count_as_much_in_either_order(tmp_path: Path, folders: list[Path]) -> None:
    twin = write_arrays(tmp_path / "twin", MODELS[0])
    settings: list[Settings] = [{"weight": GRADIENT}, {"weight": always(0.1)}, {"weight": BY_NAME}]
    digests = {
        fuse(folders[0], pair, tmp_path / f"o{n}", "weighted-mean", settings=settings)
        for n, pair in enumerate(([folders[1], twin, folders[2]], [twin, folders[1], folders[2]]))
    }
    assert len(digests) == 1


def test_what_is_the_same_everywhere_is_the_recipe_itself(tmp_path: Path, folders: list[Path]) -> None:
    given = {"weight": always(0.25), "density": always(0.3)}
    by_file = fuse(
        folders[0], folders[1:], tmp_path / "file", "ties(variant=mergekit)", settings=[given] * 3,
        shared={"scale": Setting((Rule((0.5, 0.5)),))},
    )  # fmt: skip
    line = "ties(variant=mergekit, density=0.3, scale=0.5)"
    assert by_file == fuse(folders[0], folders[1:], tmp_path / "line", line, weights=[0.25] * 3)


def test_densities_of_models_count_over_the_whole_model_in_the_papers_variant(
    tmp_path: Path, folders: list[Path]
) -> None:
    settings: list[Settings] = [{"density": always(density)} for density in (0.2, 1.0, 0.5)]
    fuse(folders[0], folders[1:], tmp_path / "out", "trim then task-arithmetic(scale=1)", settings=settings)
    flat = [np.concatenate([(model[name] - BASE[name]).ravel() for name in BASE]) for model in MODELS]
    kept = 0
    for delta, density in zip(flat, (0.2, 1.0, 0.5), strict=True):
        rank = max(delta.size - int(delta.size * density) - 1, 0)
        threshold = np.sort(np.abs(delta).astype(np.float32))[rank]
        kept = kept + np.where(np.abs(delta).astype(np.float32) >= threshold, delta, 0)
    moved = read_arrays(tmp_path / "out")
    found = np.concatenate([(moved[name] - BASE[name]).ravel() for name in BASE])
    np.testing.assert_allclose(found, kept, rtol=1e-9, atol=1e-12)


def prepared(folders: list[Path], method: str, settings: list[Settings], shared: Mapping[str, Setting]) -> None:
    open_fusion(
        FolderFusion(
            base=folders[0], models=folders[1:3], out=folders[0] / "x", recipe=read_recipe(method), settings=settings,
            shared=shared,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "own", "shared", "says"),
    [
        ("weighted-mean", {"weight": always(1)}, {}, r"bob: no weight; give it one, or all of them one"),
        ("weighted-mean", {"weight": Setting((Rule((1.0,), "mlp"),))}, {"weight": Setting((Rule((1.0,), "attn"),))},
         r"no weight for tensor model\.embed_tokens\.weight; add a rule for all"),
        ("median", {"weight": always(1)}, {}, "does not weigh the models; leave their weights out"),
        ("median", {}, {"density": always(1)}, "density: no step of the method has such a parameter; known are weight"),
        ("dare then ties", {}, {"density": always(0.5)}, "several steps .* say which: dare.density or ties.density"),
        ("ties", {}, {"density": GRADIENT}, "density is one number for all tensors.* take variant=mergekit"),
        ("iso-c", {}, {"scale": GRADIENT}, "iso-c: scale is one number for all tensors"),
        ("ties(variant=mergekit)", {"scale": always(0.5)}, {}, "scale is one number for all models; give it under par"),
        ("ties(variant=mergekit)", {"density": always(1.5)}, {}, r"alice: .*: ties: density=1\.5: Input"),
        ("della(variant=mergekit)", {"density": Setting((Rule((1.0, 0.01)),))}, {}, r"density=0\.01.*density ±"),
        ("ties(variant=mergekit)", {"density": Setting((Rule((0.5,), "atn"), Rule((1.0,))))}, {},
         r"alice: density: no tensor that is fused has 'atn' in its name; the base's are model\.embed_tokens"),
        ("weighted-mean", {}, {"weight": Setting((Table({"lm": 1.0, "*": 2.0}),))}, "parameters: weight: .*'lm'"),
        ("dare then mean", {}, {"drop": always(0.5), "density": always(0.5)}, "density: drop says the same; give one"),
        ("analogy", {"weight": always(1)}, {}, "expected 3 models"),
        ("task-arithmetic", {}, {"scale": Setting((Rule((1.0,), "mlp"),))}, "task-arithmetic: no scale for tensor"),
    ],
)  # fmt: skip
def test_what_a_formula_does_not_have_is_refused_in_one_line(
    folders: list[Path], method: str, own: Settings, shared: Settings, says: str
) -> None:
    with pytest.raises(Exception, match=says) as caught:
        prepared(folders, method, [own, {}], shared)
    assert isinstance(caught.value, UserInputError) or method == "analogy"
    assert "\n" not in str(caught.value)


def test_weights_that_a_method_refuses_are_refused_with_the_tensor(tmp_path: Path, folders: list[Path]) -> None:
    below = Setting((Rule((-1.0,), "mlp"), Rule((1.0,))))
    with pytest.raises(Exception, match=r"tensor model\.layers\.0\.mlp\.up_proj\.weight: weights are .*none under 0"):
        fuse(folders[0], folders[1:], tmp_path / "out", "karcher", settings=[{"weight": below}] * 3)
    assert not (tmp_path / "out").exists()


def test_a_plan_says_the_numbers_and_what_it_says_can_be_used_again(tmp_path: Path, folders: list[Path]) -> None:
    settings: list[Settings] = [{"weight": GRADIENT, "density": BY_NAME}, {"density": always(0.2)}]
    shared = {"weight": always(0.5), "scale": Setting((Rule((1.0,), "mlp"), Rule((0.5,))))}
    request = FolderFusion(
        base=folders[0], models=folders[1:3], out=tmp_path / "one", recipe=read_recipe("ties(variant=mergekit)"),
        settings=settings, shared=shared,
    )  # fmt: skip
    ready = open_fusion(request)
    report = describe(ready, ThreadExecutor(1))
    assert report.recipe.startswith("ties(density=varies, scale=varies, merge=mean")
    said = {Path(item.path).name: item for item in report.inputs}
    assert (said["alice"].weight, said["bob"].weight) == (None, 0.5)
    assert said["alice"].settings["weight"]["model.layers.1.mlp.up_proj.weight"] == pytest.approx(0.65)
    assert said["bob"].settings == {"weight": 0.5, "density": 0.2}
    assert set(report.parameters["scale"].values()) == {0.5, 1.0}

    each, parameters = settings_of(ready.fusion)
    tables = [{k: as_setting(v) for k, v in own.items()} for own in each]
    names = {Path(item.path).name: table for item, table in zip(ready.inputs, tables, strict=True)}
    again = fuse(
        folders[0], folders[1:3], tmp_path / "two", "ties(variant=mergekit)",
        settings=[names["alice"], names["bob"]], shared={k: as_setting(v) for k, v in parameters.items()},
    )  # fmt: skip
    first = fuse(
        folders[0], folders[1:3], tmp_path / "one", "ties(variant=mergekit)", settings=settings, shared=shared
    )  # fmt: skip
    assert again == first


def as_setting(said: object) -> Setting:
    return Setting((Table(said),)) if isinstance(said, dict) else always(float(str(said)))
