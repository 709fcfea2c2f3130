"""What `coldfuse fuse` says before, while and after it fuses."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run_coldfuse
from tiny_rounds import floats, integers, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint

NAMES = ("zoe", "alice", "bob")
WEIGHTED = ("--method", "weighted-mean", "--weights", "1,2,5")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    base, tensors = rng.normal(size=(30, 8)), {"ids": integers(range(3))}
    made = [write_model(tmp_path / "base", tensors | {"layer.weight": floats(base)})]
    for name in NAMES:
        table = floats(base + 0.01 * rng.normal(size=base.shape))
        made.append(write_model(tmp_path / name, tensors | {"layer.weight": table}))
    return made


def fuse(folders: list[Path], out: Path, *options: object) -> str:
    """Run the command in this process; return what it prints to standard output."""
    result = CliRunner().invoke(app, [str(word) for word in ("fuse", *folders, "--out", out, *options)])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def test_a_plan_says_what_would_happen_and_makes_nothing(folders: list[Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    said = fuse(folders, tmp_path / "out", "--method", "clip then ties then nesterov", "--plan")
    assert sorted(tmp_path.rglob("*")) == before
    assert "ties(density=0.2, scale=1.0, merge=mean, zero_votes=element, variant=paper)" in said
    positions = [said.index(text) for text in ("squared norms", "ranking thresholds", "fusing", "for a worker")]
    assert positions == sorted(positions)
    assert [said.index(f"{folder}  ") for folder in folders] == sorted(said.index(f"{folder}  ") for folder in folders)


@pytest.mark.parametrize("options", [(), ("--as", "delta"), ("--as", "adapter", "--rank", "2"), ("--explain", "model")])
def test_a_plan_is_made_for_every_output(folders: list[Path], tmp_path: Path, options: tuple[str, ...]) -> None:
    report = json.loads(fuse(folders, tmp_path / "out", "--method", "median", "--plan", "--json", *options))
    wanted = ["comparing what is copied"] * ("--as" in options) + ["fusing"]
    wanted += ["measuring coefficients"] * ("--explain" in options)
    assert [one["what"] for one in report["passes"]] == wanted
    assert [item["path"] for item in report["inputs"]] == [str(folder) for folder in folders[1:]]
    assert report["fits"] is True


def test_a_plan_that_does_not_fit_says_so(folders: list[Path], tmp_path: Path) -> None:
    tight = ("--memory", "1KiB", "--workers", 2)
    assert "too little; give more --memory" in fuse(folders, tmp_path / "out", "--plan", *tight)
    report = json.loads(fuse(folders, tmp_path / "out", "--plan", "--json", *tight))
    assert (report["fits"], report["limit_bytes"], report["num_workers"]) == (False, 512, 2)
    with pytest.raises(UserInputError, match="--memory"):
        fuse(folders, tmp_path / "out", *tight)


def test_a_search_has_no_plan(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="leave --plan out"):
        fuse(folders, tmp_path / "out", "--method", "greedy-soup", "--plan")


def test_an_explanation_names_the_models_in_the_order_given(folders: list[Path], tmp_path: Path) -> None:
    lines = fuse(folders, tmp_path / "out", *WEIGHTED, "--explain", "model").splitlines()
    assert [line.split() for line in lines[-5:-2]] == [
        ["0.1250", str(folders[1])], ["0.2500", str(folders[2])], ["0.6250", str(folders[3])]
    ]  # fmt: skip
    assert lines[-1] == f"digest {open_checkpoint(tmp_path / 'out').digest()}"


def test_an_explanation_goes_tensor_by_tensor(folders: list[Path], tmp_path: Path) -> None:
    said = fuse(folders, tmp_path / "out", "--method", "median", "--explain", "tensors")
    (line,) = (line for line in said.splitlines() if "  layer.weight" in line)
    coefficients = [float(word) for word in line.split()[:3]]
    assert 0.5 < sum(coefficients) < 1.5
    assert "% of it" in line
    assert said.splitlines()[-1].startswith("digest ")


@pytest.mark.parametrize("options", [("--as", "delta"), ("--as", "adapter", "--rank", "8")])
def test_whatever_is_made_is_explained(folders: list[Path], tmp_path: Path, options: tuple[str, ...]) -> None:
    method = ("--method", "trim(density=1) then task-arithmetic(scale=0.1)")  # a transform: by least squares
    said = json.loads(fuse(folders, tmp_path / "out", *method, "--explain", "model", "--json", *options))
    overall = said["explanation"]["overall"]
    assert overall["contributions"] == pytest.approx([0.1] * 3, rel=1e-3)
    assert overall["explained"] == pytest.approx(1)


def test_json_is_all_there_is_on_standard_output(folders: list[Path], tmp_path: Path) -> None:
    (line,) = run_coldfuse("fuse", *folders, "--out", tmp_path / "out", *WEIGHTED, "--json").succeed().lines
    said = json.loads(line)
    assert said["digest"] == open_checkpoint(tmp_path / "out").digest()
    assert (said["out"], said["method"]) == (str(tmp_path / "out"), "weighted-mean(by=examples, absent=zero)")
    named = [(item["path"], item["kind"], item["weight"]) for item in said["contributions"]]
    assert named == [(str(folder), "model", weight) for folder, weight in zip(folders[1:], (1, 2, 5), strict=True)]


def stderr_on_a_terminal(*words: object) -> str:
    """Run `coldfuse fuse` with a terminal for standard error; return what was written there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "coldfuse", "fuse", *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                seen += chunk
        except OSError:  # the other side is closed
            pass
        assert process.wait(60) == 0, seen
    os.close(ours)
    return seen.decode()


def test_a_terminal_sees_how_far_it_is(folders: list[Path], tmp_path: Path) -> None:
    words = (*folders, "--method", "clip then median")
    seen = stderr_on_a_terminal(*words, "--out", tmp_path / "out")
    total = 4 * 30 * 8 * 4 * 2 + 4 * 3 * 8  # two passes over four tables; what is copied is compared once
    assert f"{total / 1000:.1f}/{total / 1000:.1f} kB" in seen
    assert stderr_on_a_terminal(*words, "--out", tmp_path / "other", "--json") == ""
