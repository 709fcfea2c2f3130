"""The streaming engine gives what the recipe says, whatever it is given and however the work is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import Model, floats, integers, parse_file, write_model

from coldfuse.core.dtypes import from_floats
from coldfuse.engine import job
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders, prepare
from coldfuse.engine.recipes import known_methods, read_recipe
from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion.in_memory import InMemory, move_in_memory
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header

SHAPES = {
    "embeddings": (37, 16),
    "layer.weight": (24, 16),
    "layer.bias": (24,),
    "one": (1,),
    "scalar": (),
    "deep": (3, 5, 7),
}
PAIRS = {"slerp", "nuslerp", "nuslerp-rows"}
COMPOSED = [
    "clip then dare then ties(density=0.5) then nesterov",
    "della then ties(density=1) then interpolate",
    "breadcrumbs then task-arithmetic",
    "trim then median then fedadam",
    "clip then iso-c",
    "ties(density=0.2, variant=mergekit)",
    "dare(drop=0.5, variant=mergekit) then mean(absent=skip)",
    "breadcrumbs(variant=mergekit) then extrapolate",
    "ties(zero_votes=model)",
]


def model(seed: int, base: Model | None = None, *, scale: float = 1e-2) -> Model:
    rng = np.random.default_rng(seed)
    tensors: Model = {}
    for name, shape in SHAPES.items():
        start = base[name].floats.astype(np.float64) if base else 0
        tensors[name] = floats(start + rng.normal(size=shape) * (scale if base else 1))
    return tensors | {"position_ids": integers(range(6))}


def arrays(tensors: Model) -> dict[str, np.ndarray]:
    return {name: tensor.floats.astype(np.float64) for name, tensor in tensors.items() if tensor.spec.is_fused}


def make_statistics(folders: Sequence[Path], kind: str, base: Model) -> tuple[list[Path], list[dict[str, np.ndarray]]]:
    """Write one file of statistics a model, and return what they hold."""
    paths, held = [], []
    for index, folder in enumerate(folders):
        rng = np.random.default_rng(900 + index)
        if kind == "gram":
            x = rng.normal(size=(64, 16))
            values = {"layer.weight": x.T @ x / 64}
        else:
            values = {name: rng.gamma(1.0, size=array.shape) for name, array in arrays(base).items()}
        values = {name: value.astype(np.float32) for name, value in values.items()}
        path = folder.with_suffix(".statistics")
        path.write_bytes(statistics_file(values, kind, open_checkpoint(folder).digest()))
        paths.append(path)
        held.append(values)
    return paths, held


def statistics_file(values: dict[str, np.ndarray], kind: str, of: str) -> bytes:
    info = StatisticsInfo(
        kind=kind,
        estimator="exact",
        model=of,
        num_examples=64,
        over="tokens" if kind == "gram" else "examples",
        count=64,
    )
    header = statistics_header({name: value.shape for name, value in values.items()}, info)
    return header + b"".join(values[name].tobytes() for name in sorted(values))


@pytest.fixture(params=[64, 1 << 18], ids=["short blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut blocks so short that every tensor has several."""
    monkeypatch.setattr(job, "_STACK_ELEMENTS", request.param)
    monkeypatch.setattr(job, "_FEWEST_ELEMENTS", 16)
    return request.param


@pytest.mark.parametrize("line", [*known_methods(), *COMPOSED])
def test_streaming_gives_what_the_recipe_says(tmp_path: Path, small_parts: None, blocks: int, line: str) -> None:
    recipe = read_recipe(line)
    count = 2 if line in PAIRS else 3
    base = model(0)
    models = [model(seed, base) for seed in range(1, count + 1)]
    folders = [write_model(tmp_path / f"m{i}", m, num_files=1 + i) for i, m in enumerate(models)]
    kind = next((step.statistic for step in recipe.steps if step.statistic), None)
    statistics, held = make_statistics(folders, kind, base) if kind else ([], None)
    request = FolderFusion(
        base=write_model(tmp_path / "base", base), models=folders, out=tmp_path / "out", recipe=recipe,
        weights=[1.0, 2.0, 3.0] if line == "weighted-mean" else None, statistics=statistics,
    )  # fmt: skip
    digest = fuse_folders(request, ThreadExecutor(2)).digest
    again = fuse_folders(replace(request, out=tmp_path / "again"), ThreadExecutor(1)).digest
    assert digest == again
    expect_as_in_memory(request, base, held)


@pytest.mark.parametrize("line", [*known_methods(), *COMPOSED])
def test_no_method_fuses_what_is_not_finite(tmp_path: Path, line: str) -> None:
    """One such number among all the others is enough, wherever it lies, and the input that holds it is named."""
    recipe, base = read_recipe(line), model(0)
    folders = [write_model(tmp_path / f"m{seed}", model(seed, base)) for seed in range(1, 2 if line in PAIRS else 3)]
    for name, index, value in (("layer.weight", 200, np.nan), ("scalar", 0, -np.inf)):
        values = model(9, base)[name].floats.copy()
        values.reshape(-1)[index] = value
        bad = write_model(tmp_path / f"bad-{name}", model(9, base) | {name: floats(values)})
        models = [*folders, bad]
        kind = next((step.statistic for step in recipe.steps if step.statistic), None)
        request = FolderFusion(
            base=write_model(tmp_path / f"base-{name}", base), models=models, out=tmp_path / "out", recipe=recipe,
            weights=[1.0] * len(models) if line == "weighted-mean" else None,
            statistics=make_statistics(models, kind, base)[0] if kind else [],
        )  # fmt: skip
        with pytest.raises(FusionError, match=f"^tensor {name}: .*bad-{name}.*holds NaN or infinity there"):
            fuse_folders(request, ThreadExecutor(2))


def expect_as_in_memory(request: FolderFusion, base: Model, held: Sequence[dict[str, np.ndarray]] | None) -> None:
    prepared = prepare(request, ThreadExecutor(1))
    before = arrays(base)
    paths = [item.path for item in prepared.inputs]
    order = [list(request.models).index(path) for path in paths]
    models = [arrays(read(path)) for path in paths]
    memory = InMemory(
        recipe=request.recipe,
        base=before,
        deltas=[{name: m[name] - before[name] for name in before} for m in models],
        weights=prepared.fusion.weights,
        statistics=None if held is None else [held[i] for i in order],
        seed=request.seed,
        names=prepared.fusion.names,
    )
    fused = read(request.out)
    for name, delta in memory.fuse().items():
        moved, _ = move_in_memory(request.recipe, delta.ravel(), {})
        expected = from_floats(before[name].ravel() + moved, "F32").view(np.float32).reshape(SHAPES[name])
        scale = np.abs(expected) + np.abs(delta).max(initial=0)
        assert (np.abs(fused[name].floats - expected) <= 2.0**-22 * scale).all(), name
    assert fused["position_ids"] == base["position_ids"]


def read(folder: Path) -> Model:
    return {name: t for file in folder.glob("*.safetensors") for name, t in parse_file(file.read_bytes()).items()}


@pytest.mark.parametrize("line", ["iso-c", "tsv-m", "wudi"])
def test_matrices_come_out_alike_where_torch_works_on_them(tmp_path: Path, line: str) -> None:
    base = model(0)
    folders = [write_model(tmp_path / f"m{seed}", model(seed, base)) for seed in (1, 2, 3)]
    fused = []
    for device in ("cpu", "cpu:0"):  # the second is torch's name for it
        out = tmp_path / device
        request = FolderFusion(
            base=tmp_path / "base", models=folders, out=out, recipe=read_recipe(line), device=device
        )  # fmt: skip
        if not (tmp_path / "base").exists():
            write_model(tmp_path / "base", base)
        fuse_folders(request, ThreadExecutor(2))
        fused.append(read(out))
    for name in SHAPES:
        assert np.allclose(fused[0][name].floats, fused[1][name].floats, rtol=0, atol=1e-6)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", model(0))
    request = FolderFusion(
        base=base, models=[base], out=tmp_path / "out", recipe=read_recipe("iso-c"), device="nowhere"
    )
    with pytest.raises(UserInputError, match=r"--device nowhere: .*; expected cpu, or a GPU such as cuda"):
        fuse_folders(request, ThreadExecutor(1))
