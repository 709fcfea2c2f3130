import json
from dataclasses import replace

import pytest

from coldfuse.cli.bench import _split
from coldfuse.experiments.bench_fuse_figures import FuseFigures, ProgramFigures, Spread, table
from coldfuse.experiments.bench_fuse_mergekit import MERGES, mergekit_command
from coldfuse.experiments.bench_fuse_models import SHAPES, Job, count_elements

JOB = Job(
    method="ties", base="/base", models=("/a", "/b"), statistics=(), out="/out", dtype="BF16", num_workers=2,
    on_ray=False, num_parameters=1,
)  # fmt: skip


@pytest.mark.parametrize(("shape", "count"), [("minilm", 22_713_216), ("llama-0.5b", 493_961_728)])
def test_shapes_have_the_size_of_their_original_and_any_other(shape, count):
    assert count_elements(SHAPES[shape](None)[0]) == pytest.approx(count, rel=1e-3)
    assert count_elements(SHAPES[shape](5_000_000)[0]) == pytest.approx(5_000_000, rel=0.15)


def test_square_models_have_exactly_the_size_that_was_asked_for():
    assert count_elements(SHAPES["square"](10_000_000)[0]) == 10_000_000


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors_lie_in_the_order_of_their_names(shape):
    names = list(SHAPES[shape](5_000_000)[0])
    assert names == sorted(names)


def test_recipes_are_cut_at_commas_outside_parentheses():
    assert _split("mean, ties(density=0.3, scale=2),dare then mean") == [
        "mean", "ties(density=0.3, scale=2)", "dare then mean",
    ]  # fmt: skip


def test_a_spread_of_what_is_not_known_is_none():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, min=1.0, max=3.0)
    assert Spread.of([1.0, None]) is None
    assert Spread.of([]) is None


@pytest.mark.parametrize("method", MERGES)
def test_mergekit_is_told_the_method_the_models_and_the_dtype(method, tmp_path):
    job = replace(JOB, method=method)
    command = mergekit_command(tmp_path / "mergekit-yaml", job, tmp_path)
    config = json.loads((tmp_path / "mergekit.yaml").read_text())
    assert command[:3] == [str(tmp_path / "mergekit-yaml"), str(tmp_path / "mergekit.yaml"), "/out"]
    assert [model["model"] for model in config["models"]] == ["/a", "/b"]
    assert (config["merge_method"], config["dtype"]) == (MERGES[method][0], "bfloat16")
    assert config.get("base_model") == (None if method == "mean" else "/base")


def test_the_table_shows_every_program_and_why_one_failed():
    programs = (ProgramFigures(program="coldfuse", gb_s=1.5), ProgramFigures(program="mergekit", failure="no"))
    figures = FuseFigures(
        method="mean", shape="square", num_parameters=1, num_contributions=2, dtype="F32", num_workers=1,
        on_ray=False, num_runs=1, input_bytes=1, read_gb_s=1.0, cached_read_gb_s=1.0, programs=programs,
    )  # fmt: skip
    lines = list(table(figures))
    assert [line.split()[0] for line in lines] == ["mean:", "program", "coldfuse", "mergekit", "no"]
