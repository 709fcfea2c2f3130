"""The benchmarks: models like real ones, programs that are measured, and bounds that make what coldfuse makes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import compare
from folder_fusions import fuse
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.core.dtypes import to_floats
from coldfuse.errors import ColdfuseError
from coldfuse.experiments.bench_fuse import Program, run_program
from coldfuse.experiments.bench_models import WEIGHTS, make_models, minilm
from coldfuse.storage import open_store

ROUNDING = {"F32": 2.0**-20, "BF16": 2.0**-6}
"""Two programs may round an element differently: by the last bits of F32, or by two steps of BF16."""


@pytest.fixture(scope="module", params=ROUNDING)
def made(request, tmp_path_factory):
    """A base and seven models, and their dtype."""
    folder = tmp_path_factory.mktemp("models")
    return make_models(folder, minilm(1_000_000), dtype=request.param, num_models=7), request.param


def floats(path, dtype):
    data = np.fromfile(path, np.uint8)
    return to_floats(data[8 + int(data[:8].view(np.uint64)[0]) :], dtype).astype(float)


def share_differing(ours, theirs, dtype):
    a, b = floats(ours, dtype), floats(theirs, dtype)
    return np.mean(np.abs(a - b) > ROUNDING[dtype] * np.abs(b) + 1e-5 * np.std(b))


def test_models_are_independent_and_of_real_scale(made):
    models, dtype = made
    base, *finetuned = (floats(folder / WEIGHTS, dtype) for folder in (models.base, *models.models))
    deltas = np.array([weights - base for weights in finetuned])
    assert np.std(base) == pytest.approx(0.02, rel=0.01)
    assert np.std(deltas) == pytest.approx(0.001, rel=0.01)
    assert np.abs(np.corrcoef([base, *deltas]) - np.eye(8)).max() < 0.01
    assert np.abs(np.corrcoef(deltas[0][: 1 << 15], deltas[0][1 << 15 : 1 << 16])[0, 1]) < 0.05


def test_models_are_kept_and_made_again_alike(made, tmp_path):
    models, dtype = made
    before = models.models[0].joinpath(WEIGHTS).stat().st_mtime_ns
    again = make_models(models.base.parent, minilm(1_000_000), dtype=dtype, num_models=1)
    assert again.models[0].joinpath(WEIGHTS).stat().st_mtime_ns == before
    other = make_models(tmp_path, minilm(1_000_000), dtype=dtype, num_models=1)
    assert [file.read_bytes() for file in other.files] == [file.read_bytes() for file in again.files]


@pytest.mark.parametrize("method", ["mean", "ties"])
def test_what_is_compared_makes_what_coldfuse_makes(made, method, tmp_path):
    models, dtype = made
    folders = [models.base, *models.models]
    fuse(*folders[:1], folders[1:], tmp_path / "ours", method)
    bound = compare.compile_bound(tmp_path / "program")
    if bound is not None:
        command = compare.bound_command(bound, method, dtype, 2, tmp_path / "bound", models)
        subprocess.run(command, check=True)
        assert share_differing(tmp_path / "ours" / WEIGHTS, tmp_path / "bound", dtype) == 0
    peer = [sys.executable, compare.HERE / "torch_peer.py", method, 2, tmp_path / "peer", *folders]
    subprocess.run(list(map(str, peer)), check=True)
    assert share_differing(tmp_path / "ours" / WEIGHTS, tmp_path / "peer" / WEIGHTS, dtype) < 1e-3


def test_mergekit_is_told_the_method_the_models_and_the_dtype(made, tmp_path):
    models, dtype = made
    command = compare.mergekit(Path("/mergekit-yaml"), "ties", dtype, 2, tmp_path / "out", models)
    config = json.loads((tmp_path / "mergekit.yaml").read_text())
    assert command[:3] == ["/mergekit-yaml", str(tmp_path / "mergekit.yaml"), str(tmp_path / "out")]
    assert [model["model"] for model in config["models"]] == list(map(str, models.models))
    assert (config["merge_method"], config["base_model"]) == ("ties", str(models.base))


def test_a_program_is_timed_and_watched():
    code = "data = bytearray(50 << 20); import time; time.sleep(0.2); print('so'); print('done')"
    run = run_program(Program(name="it", command=[sys.executable, "-c", code]))
    assert run.wall_s > 0.2
    assert 0 < run.cpu_s < run.wall_s
    assert 50 < run.peak_mib < 100
    assert run.last_line == "done"


def test_a_program_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(ColdfuseError, match=r"it ended with status 3: woe"):
        run_program(
            Program(
                name="it", command=[sys.executable, "-c", "import sys; sys.exit(print('woe', file=sys.stderr) or 3)"]
            )
        )


def test_two_checkouts_are_compared_in_turns(tmp_path, capsys):
    here = str(Path(compare.__file__).parents[2])
    compare.main([here, here, "--folder", str(tmp_path), "--cases", "tiny", "--methods", "mean", "--runs", "1"])
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if line.startswith("  ")][:3] == ["program", "A", "B"]
    assert "A and B make the same: digest " in said
    assert not (tmp_path / "out").exists()


def invoke(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_fusing_is_measured_beside_reading_and_the_models_are_kept(tmp_path):
    kept = tmp_path / "kept"
    options = ("--parameters", 20000, "--contributions", 2, "--workers", 1, "--runs", 1, "--models", kept)
    (figures,) = json.loads(invoke("bench", "fuse", "--methods", "fisher", *options, "--folder", tmp_path, "--json"))
    assert (figures["method"], figures["num_parameters"], figures["num_contributions"]) == ("fisher", 20000, 2)
    assert figures["whole_s"]["median"] > figures["read_s"]["median"] > 0
    assert figures["peak_mib"]["median"] > 50
    assert figures["input_bytes"] > 20000 * 4 * 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert sorted(path.name for path in kept.iterdir()) == ["square-20000-F32", "square-30000-F32"]


def test_uploading_is_measured_beside_a_bare_stream(tmp_path):
    said = invoke("bench", "upload", "--sizes", "2", "--runs", 1, "--parallel", 2, "--folder", tmp_path)
    found = dict(line.split(maxsplit=1) for line in said.splitlines() if line)
    assert found["size_mib"] == "2"
    assert float(found["ratio"].split()[0]) > 0
    assert not list(tmp_path.iterdir())


def test_uploading_to_a_store_that_keeps_nothing_is_measured(tmp_path):
    said = invoke("bench", "upload", "--sizes", "2", "--runs", 1, "--store", "null", "--folder", tmp_path, "--json")
    (figures,) = json.loads(said)
    assert figures["ratio"]["median"] > 0
    assert figures["disk_mib_s"] is figures["boto3_mib_s"] is None
    assert figures["store_operations"] >= 1


def test_uploading_to_s3_is_measured_beside_boto3_and_leaves_nothing(s3_url):
    (figures,) = json.loads(invoke("bench", "upload", "--sizes", "1", "--runs", 1, "--store", s3_url, "--json"))
    assert figures["boto3_ratio"]["median"] > 0
    assert not open_store(s3_url).list("").keys


def test_fetching_is_measured_both_ways_beside_its_bounds(tmp_path):
    (figures,) = json.loads(invoke("bench", "fetch", "--sizes", "2", "--runs", 1, "--folder", tmp_path, "--json"))
    rates = ("bare_mib_s", "copy_mib_s", "gateway_mib_s", "straight_mib_s", "gateway_ratio", "straight_ratio")
    assert all(figures[rate]["median"] > 0 for rate in rates)
    assert not list(tmp_path.iterdir())


def test_the_end_of_a_round_is_measured_in_parts(tmp_path):
    options = ("--contributors", 2, "--parameters", "10K", "--runs", 1, "--folder", tmp_path)
    (figures,) = json.loads(invoke("bench", "round", *options, "--json"))
    parts = [figures[part]["median"] for part in ("screening_s", "fusing_s", "publishing_s")]
    assert sum(parts) == pytest.approx(figures["release_s"]["median"])
    assert figures["read_s"]["median"] > 0
    assert figures["gateway_operations"] > 3
    assert figures["files"] > 3
    assert not list(tmp_path.iterdir())
