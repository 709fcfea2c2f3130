"""What torch works on, as on a GPU, comes out as on the CPU: `cpu:0` is torch's name for the CPU."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folder_fusions import fuse
from test_engine_laws import make_statistics, read
from tiny_rounds import Model, floats, integers, small_parts, write_model

from coldfuse.engine import job, measure
from coldfuse.engine.device_counts import DeviceCounts
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folders.local import FolderFusion, fuse_folders, open_fusion
from coldfuse.engine.folders.outputs import Output
from coldfuse.engine.folders.preview import expected_passes
from coldfuse.engine.plan import all_shards
from coldfuse.engine.recipes import known_methods, read_recipe
from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion import measures
from coldfuse.fusion.method import Ranked, Sums
from coldfuse.fusion.recipe import Recipe

__all__ = ["small_parts"]

SHAPES = {"embeddings": (37, 16), "layer.weight": (24, 16), "layer.bias": (24,), "scalar": (), "deep": (3, 5, 7)}
COMPOSED = [
    "trim then median",
    "trim(flavour=mergekit, density=0.5) then sce(select_topk=0.5)",
    "dare then ties(density=1)",
    "dare(drop=0.5, flavour=mergekit) then mean(absent=skip)",
    "ties(density=0.2, flavour=mergekit) then nesterov",
    "ties(density=0.6, zero_votes=model, merge=sum)",
    "clip(norm=0.5) then trimmed-mean(trim=0.4)",
    "clip then consensus(k=1)",
    "fisher(floor_rule=added, normalise=false)",
    "dare then karcher",
]
LINES = [name for name, method in known_methods().items() if method.on_device] + COMPOSED
PAIRS = {"slerp", "nuslerp"}
CPU_ALONE = ["breadcrumbs then mean", "della then ties(density=1)", "nearswap then clip then median", "ram"]


def model(seed: int, dtype: str, base: Model | None = None) -> Model:
    rng = np.random.default_rng(seed)
    tensors: Model = {}
    for name, shape in SHAPES.items():
        is_changed = rng.random(shape) > 0.1  # the others give votes of 0
        noise = rng.normal(size=shape) * is_changed * (1e-1 if base else 1)
        tensors[name] = floats(base[name].floats + noise if base else noise, dtype)
    return tensors | {"position_ids": integers(range(6))}


def is_exact(recipe: Recipe) -> bool:
    """Whether nothing in it follows from sums of products that are made on the device."""
    return not any(isinstance(m, Sums) and m.on_device for step in recipe.steps for m in step.measures())


@pytest.fixture(params=[16, 1 << 24], ids=["short blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut blocks so short that every tensor has several, sort no tensor, and sample every model; or not."""
    monkeypatch.setattr(job, "_DEVICE_STACK_ELEMENTS", request.param)
    monkeypatch.setattr(job, "_FEWEST_ELEMENTS", 16)
    if request.param == 16:
        monkeypatch.setattr(measure, "_SORTED_VALUES", 0)
        monkeypatch.setattr(measure, "_FEWEST_VALUES", 0)
    return request.param


Seen = Counter[tuple[str, type]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Count what kinds of arrays formulas and measures are given."""
    counter: Seen = Counter()

    def watch(kind: type, name: str, values: Callable[..., Any]) -> None:
        formula = kind.__dict__[name]

        def watched(self: object, *args: Any) -> Any:
            counter[name, type(values(*args))] += 1
            return formula(self, *args)

        monkeypatch.setattr(kind, name, watched)

    methods = {owner for method in known_methods().values() for owner in method.__mro__}
    for kind in methods:
        if "fuse" in kind.__dict__:
            watch(kind, "fuse", lambda block: block.deltas_CN)
        if "transform" in kind.__dict__:
            watch(kind, "transform", lambda delta_N, *_: delta_N)
    watch(DeviceCounts, "add", lambda values_RN: values_RN)
    for name in ("inner_products", "squared_lengths"):
        product = getattr(measures, name)
        monkeypatch.setattr(measures, name, partial(count_product, counter, product))
    return counter


def count_product(counter: Seen, product: Callable[[Any], Any], rows_CN: Any) -> Any:
    counter["of", type(rows_CN)] += 1
    return product(rows_CN)


def write_inputs(folder: Path, dtype: str, count: int) -> tuple[Path, list[Path]]:
    """Write a base, and of fine-tuned models one whole, one delta in BF16 and one adapter that has one tensor."""
    before = model(0, dtype)
    base = write_model(folder / "base", before)
    models = [write_model(folder / f"m{seed}", model(seed, dtype, before)) for seed in range(1, count + 1)]
    if count > 2:
        fuse(base, [models[1]], folder / "delta.safetensors", output=Output(kind="delta", dtype="BF16"))
        adapter = Output(kind="adapter", rank=3)
        fuse(base, [models[2]], folder / "adapter", output=adapter)
        models[1:3] = [folder / "delta.safetensors", folder / "adapter"]
    return base, models


def inputs_of(folder: Path, dtype: str, line: str) -> tuple[Path, list[Path], dict[str, Any]]:
    """Write what a recipe takes: a base, models, and what else it asks for."""
    combiner = read_recipe(line).combiner
    base, models = write_inputs(folder, dtype, 2 if line in PAIRS else 4)
    if combiner.statistic:  # which are of whole models
        before = model(0, dtype)
        models = [write_model(folder / f"f{seed}", model(seed, dtype, before)) for seed in (5, 6, 7)]
        statistics, _ = make_statistics(models, combiner.statistic, before)
        return base, models, {"statistics": statistics}
    weights = [1.0, 0.5, 2.0, 3.0] if combiner.needs_weights else None
    return base, models[:3] if line == "analogy" else models, {"weights": weights}


def fuse_on_both(folder: Path, base: Path, models: Sequence[Path], line: str, **more: Any) -> list[Model]:
    fused = []
    for device in ("cpu", "cpu:0"):
        fuse(base, models, folder / f"on {device}", line, device=device, **more)
        fused.append(read(folder / f"on {device}"))
    return fused


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_blocks_come_out_alike_on_a_device(
    tmp_path: Path, small_parts: int, blocks: int, seen: Seen, line: str, dtype: str
) -> None:
    recipe = read_recipe(line)
    base, models, more = inputs_of(tmp_path, dtype, line)
    seen.clear()
    on_cpu, on_device = fuse_on_both(tmp_path, base, models, line, **more)
    for name in SHAPES:
        if is_exact(recipe):
            assert on_device[name] == on_cpu[name], name
        else:
            spacing = {"F32": 2.0**-22, "BF16": 2.0**-7, "F16": 2.0**-9}[dtype]
            assert np.allclose(on_device[name].floats, on_cpu[name].floats, rtol=spacing, atol=1e-9), name
    assert seen["fuse", torch.Tensor] >= len(SHAPES)
    assert (seen["transform", torch.Tensor] > 0) == bool(recipe.transforms)
    assert (seen["of", torch.Tensor] > 0) == (not is_exact(recipe))
    is_ranked = any(isinstance(measure, Ranked) for step in recipe.steps for measure in step.measures())
    assert (seen["add", torch.Tensor] > 0) == is_ranked


@pytest.mark.parametrize("line", CPU_ALONE)
def test_what_does_not_take_a_devices_blocks_never_sees_them(tmp_path: Path, seen: Seen, line: str) -> None:
    base, models = write_inputs(tmp_path, "F32", 4)
    on_cpu, on_device = fuse_on_both(tmp_path, base, models, line)
    assert on_device == on_cpu
    assert seen["fuse", torch.Tensor] == seen["transform", torch.Tensor] == 0


@pytest.mark.parametrize("line", ["bulyan", "clip then nuslerp-rows", "clip then breadcrumbs then mean"])
def test_measures_may_be_made_on_a_device_for_formulas_that_are_not(tmp_path: Path, seen: Seen, line: str) -> None:
    base, models = write_inputs(tmp_path, "F32", 2 if "rows" in line else 4)
    on_cpu, on_device = fuse_on_both(tmp_path, base, models, line)
    assert all(np.allclose(on_device[name].floats, on_cpu[name].floats, rtol=2.0**-22, atol=1e-9) for name in SHAPES)
    assert seen["of", torch.Tensor] > 0
    assert seen["fuse", torch.Tensor] == 0


def test_outer_steps_and_deltas_come_out_alike(tmp_path: Path) -> None:
    base, models = write_inputs(tmp_path, "BF16", 4)
    deltas = []
    for device in ("cpu", "cpu:0"):
        out = tmp_path / f"{device}.safetensors"
        deltas.append(fuse(base, models, out, "ties", device=device, output=Output(kind="delta")))
    assert deltas[0] == deltas[1]


@pytest.mark.parametrize("line", ["mean", "median", "magmax", "ties", "trim then median", "dare then consensus"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_diverged_is_treated_alike(tmp_path: Path, line: str, value: float) -> None:
    before = model(0, "F32")
    base = write_model(tmp_path / "base", before)
    models = [write_model(tmp_path / f"m{seed}", model(seed, "F32", before)) for seed in (1, 2)]
    bad = before | {"deep": floats(np.full(SHAPES["deep"], value))}
    models += [write_model(tmp_path / f"bad{i}", bad) for i in range(3)]
    outcomes = []
    for device in ("cpu", "cpu:0"):
        try:
            outcomes.append(fuse(base, models, tmp_path / device, line, device=device))
        except FusionError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert re.search(r"tensor deep: .*/bad\d/\S* holds NaN or infinity there", outcomes[1])


@pytest.mark.parametrize(
    ("line", "first", "last"),
    [
        ("clip then ties", "on cpu:0", "on cpu:0"),
        ("dare(drop=0.5, flavour=mergekit) then mean", "on the CPU", "on cpu:0"),
        ("breadcrumbs then clip then median", "on the CPU", "on the CPU"),
        ("bulyan", "on cpu:0", "on the CPU"),
        ("clip then tsv-m", "on cpu:0", "matrices on cpu:0"),
    ],
)
def test_a_plan_says_what_works_where(tmp_path: Path, line: str, first: str, last: str) -> None:
    base, models = write_inputs(tmp_path, "F32", 2)
    request = FolderFusion(
        base=base, models=models, out=tmp_path / "out", recipe=read_recipe(line), device="cpu:0"
    )  # fmt: skip
    places = [each.place for each in expected_passes(open_fusion(request))]
    assert (places[0], places[-1]) == (first, last)
    on_cpu = open_fusion(replace(request, device="cpu"))
    assert {each.place for each in expected_passes(on_cpu)} == {""}


def test_memory_for_what_is_on_its_way_is_asked_for(tmp_path: Path) -> None:
    base, models = write_inputs(tmp_path, "F32", 4)
    request = FolderFusion(base=base, models=models, out=tmp_path / "out", recipe=read_recipe("median"))
    on_cpu, there = (open_fusion(replace(request, device=device)) for device in ("cpu", "cpu:0"))
    needed = job.task_bytes(there.fusion, there.plan)
    pinned = 2 * sum(job.sent_bytes(next(all_shards(there.plan)[0].pieces), 1))
    assert needed > job.task_bytes(on_cpu.fusion, on_cpu.plan) + pinned
    with pytest.raises(UserInputError, match="give more --memory or fewer --workers"):
        fuse_folders(replace(request, device="cpu:0"), ThreadExecutor(1, memory_bytes=needed - 1))
    fuse_folders(replace(request, device="cpu:0"), ThreadExecutor(1, memory_bytes=needed))
