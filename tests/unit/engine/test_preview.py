from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from tiny_rounds import Model, floats, integers, write_model

from coldfuse.api.bars import PassCount
from coldfuse.core import blob
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_prepared, open_fusion
from coldfuse.engine.fuse import Prepared
from coldfuse.engine.passes import Pass
from coldfuse.engine.preview import all_passes, describe
from coldfuse.engine.recipes import read_recipe

RECIPES = {
    "mean": 1,
    "mean(absent=skip)": 1,
    "median": 1,
    "clip then mean": 2,
    "karcher": 2,
    "nuslerp-rows": 1,
    "iso-c": 1,
    "clip then iso-c": 2,
    "mean then nesterov": 1,
    "breadcrumbs(flavour=mergekit, density=0.5)": 2,
    "ties(density=0.2, flavour=mergekit)": 2,
}
"""And how many passes each makes over tensors that are small enough to be sorted."""

EXECUTOR = ThreadExecutor(1, memory_bytes=1 << 30)


def model(seed: int, num_rows: int = 40, num_columns: int = 9) -> Model:
    rng = np.random.default_rng(seed)
    return {
        "table": floats(rng.normal(size=(num_rows, num_columns)), "BF16"),
        "bias": floats(rng.normal(size=7)),
        "scale": floats(rng.normal()),
        "position_ids": integers(range(5)),
    }


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_model(tmp_path / name, model(seed)) for seed, name in enumerate(["base", "alice", "bob"])]


def prepared_for(folders: list[Path], method: str) -> Prepared:
    base, *models = folders
    weights = [1.0] * len(models) if read_recipe(method).combiner.needs_weights else None
    recipe = read_recipe(method)
    return open_fusion(FolderFusion(base=base, models=models, out=base / "x", recipe=recipe, weights=weights))


class Watched:
    """The passes that are made, and what their tasks are said to read."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.planned = 0

    def __call__(self, one: Pass, shard: int | None) -> None:
        if shard is None:
            self.names.append(one.name)
        else:
            self.planned += one.shard_bytes(one.shards[shard])


def watch(prepared: Prepared, out: Path) -> Watched:
    watched = Watched()
    fuse_prepared(prepared, out, EXECUTOR, progress=watched)
    return watched


def bytes_read() -> int:
    return int(psutil.Process().io_counters().read_chars)


def planned_names(prepared: Prepared) -> list[str]:
    return [one.name for one in all_passes(prepared)]


@pytest.mark.parametrize("method", RECIPES)
def test_the_passes_made_are_those_planned(method: str, folders: list[Path], tmp_path: Path) -> None:
    prepared = prepared_for(folders, method)
    assert watch(prepared, tmp_path / "out").names == planned_names(prepared)
    assert len(planned_names(prepared)) == RECIPES[method]


@pytest.fixture(scope="module")
def large_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """So large that reading them counts more than whatever else this process reads, and too large to be sorted."""
    root = tmp_path_factory.mktemp("large")
    return [write_model(root / name, model(seed, 3000, 200)) for seed, name in enumerate(["base", "alice", "bob"])]


@pytest.mark.parametrize(
    "method",
    [
        "mean", "median", "karcher", "nuslerp-rows", "clip then iso-c", "mean then nesterov",
        "ties(density=0.2, flavour=mergekit)",
    ],
)  # fmt: skip
def test_the_bytes_read_are_those_planned(
    method: str, large_folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob, "MIN_PART_BYTES", 500_000)  # no multiple of a row
    prepared = prepared_for(large_folders, method)
    planned = sum(one.read_bytes for one in all_passes(prepared))
    assert watch(prepared, tmp_path / "warm").planned == planned  # and what is compiled is loaded
    before = bytes_read()
    watch(prepared, tmp_path / "out")
    assert 0.95 * planned < bytes_read() - before < 1.05 * planned


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ("sce(select_topk=0.5)", 3),
        ("breadcrumbs(flavour=mergekit, density=0.5)", 3),
        ("ties", 3),
        ("nuslerp-rows", 0),
        ("trim then ties(density=0.2, flavour=mergekit)", 6),
    ],
)
def test_ranks_that_are_not_sorted_take_a_known_number_of_passes(
    method: str, passes: int, large_folders: list[Path], tmp_path: Path
) -> None:
    prepared = prepared_for(large_folders, method)
    made = watch(prepared, tmp_path / "out")
    assert made.names == planned_names(prepared)
    assert sum(name.startswith("ranking") for name in made.names) == passes


@pytest.fixture(scope="module")
def sampled_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """So large that ranks in the whole model are guessed from a sample before they are counted."""
    root = tmp_path_factory.mktemp("sampled")
    return [write_model(root / name, model(seed, 3000, 700)) for seed, name in enumerate(["base", "alice", "bob"])]


def test_only_what_a_sample_guesses_may_be_counted_again(sampled_folders: list[Path], tmp_path: Path) -> None:
    prepared = prepared_for(sampled_folders, "clip then ties")
    report = describe(prepared, EXECUTOR)
    sampling, ranking = report.passes[1:3]
    assert (sampling.what, sampling.may_repeat) == ("sampling thresholds", False)
    assert (ranking.what, ranking.step, ranking.scope) == ("ranking thresholds", "ties", "model")
    assert [one.may_repeat for one in report.passes] == [False, False, True, False]
    made = watch(prepared, tmp_path / "out").names
    assert [name for name in made if name != "ranking thresholds"] == [
        "measuring squared norms", "sampling thresholds", "fusing"
    ]  # fmt: skip


def test_nothing_is_read_or_written_to_describe_a_fusion(folders: list[Path], tmp_path: Path) -> None:
    prepared = prepared_for(folders, "clip then ties then nesterov")
    describe(prepared, EXECUTOR, is_explained=True)  # imports
    files, before = sorted(tmp_path.rglob("*")), bytes_read()
    describe(prepared, EXECUTOR, is_explained=True)
    assert bytes_read() - before < 1000  # to ask how much was read is a read
    assert sorted(tmp_path.rglob("*")) == files


def test_a_report_names_everything(folders: list[Path], small_parts: int) -> None:
    report = describe(prepared_for(folders, "mean then nesterov"), ThreadExecutor(3, memory_bytes=300))
    assert report.recipe == "mean(absent=zero) then nesterov(lr=0.7, momentum=0.9)"
    assert (report.num_tensors, report.num_elements, report.num_files) == (3, 368, 1)
    assert report.num_parts == report.num_shards > 1
    assert {(item.path, item.kind) for item in report.inputs} == {(str(folder), "model") for folder in folders[1:]}
    assert all(item.size_bytes == (folders[0] / "model.safetensors").stat().st_size for item in report.inputs)
    (fusing,) = report.passes
    assert (fusing.what, fusing.scope) == ("fusing", None)
    assert fusing.write_bytes == (40 * 9 * 2 + 8 * 4 + 5 * 8) + 4 * 368 + 4 * 360  # momentum, and a residual of BF16
    assert (report.num_workers, report.limit_bytes, report.fits) == (3, 100, False)
    assert report.task_bytes > 100


@pytest.mark.parametrize(("method", "passes"), [("mean", 1), ("median", 2), ("clip then mean", 3)])
def test_explaining_takes_another_pass_where_the_recipe_is_no_linear_combination(
    method: str, passes: int, folders: list[Path]
) -> None:
    report = describe(prepared_for(folders, method), EXECUTOR, is_explained=True)
    assert len(report.passes) == passes
    if passes > 1:
        assert report.passes[-1].read_bytes == 4 * (40 * 9 * 2 + 8 * 4)


def test_ranks_that_take_another_pass_make_the_bar_longer(sampled_folders: list[Path]) -> None:
    expected = all_passes(prepared_for(sampled_folders, "ties"))
    seen: list[tuple[int, int, str]] = []
    passes = PassCount(expected, lambda *now: seen.append(now))
    said = []
    for one in (expected[0], expected[1], expected[1], expected[2]):
        passes(one, None)
        said.append(seen[-1][:0:-1])
        for index in range(len(one.shards)):
            passes(one, index)
    total = sum(one.read_bytes for one in expected)
    longer = total + expected[1].read_bytes
    names = ["sampling thresholds", "ranking thresholds", "ranking thresholds, pass 2", "fusing"]
    assert said == list(zip(names, (total, total, longer, longer), strict=True))
    assert seen[-1][0] == longer
