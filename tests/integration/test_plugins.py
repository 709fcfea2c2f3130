"""Somebody else's package brings a fusion method: real processes that find it installed, or broken, or in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from commands import Process, run_coldfuse
from tiny_rounds import Model, floats, make_changes, make_model, parse_file, write_model

PACKAGE = Path(__file__).parents[1] / "data" / "third_party_method"
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
POINTS = PROJECT["entry-points"]["coldfuse.methods"]
MODEL = make_model()


def install(site: Path, points: dict[str, str], *, name: str = PROJECT["name"]) -> None:
    """Lay the package out in a folder as pip would: its module, and its metadata with the entry points."""
    info = site / f"{name.replace('-', '_')}-{PROJECT['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {PROJECT['version']}\n")
    lines = [f"{point} = {value}\n" for point, value in points.items()]
    (info / "entry_points.txt").write_text("".join(["[coldfuse.methods]\n", *lines]))
    shutil.copy(PACKAGE / "coldfuse_midrange.py", site)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where Python looks for packages, for the processes that this test starts."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    return tmp_path / "site"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", MODEL)


def finetuned(folder: Path, seed: int) -> tuple[Path, dict[str, np.ndarray]]:
    changes = make_changes(MODEL, seed)
    model = MODEL | {name: floats(MODEL[name].floats + change) for name, change in changes.items()}
    written = write_model(folder / f"model-{seed}", model)
    return written, {name: model[name].floats.astype(np.float64) - MODEL[name].floats for name in changes}


def read(folder: Path) -> Model:
    return parse_file((folder / "model.safetensors").read_bytes())


def refusal(process: Process) -> str:
    assert process.wait() == 1, str(process)
    [line] = process.errors
    return line


def test_an_installed_method_is_listed_and_described(site: Path) -> None:
    install(site, POINTS)
    listed = [line.split(maxsplit=1) for line in run_coldfuse("methods").succeed().lines]
    assert ["midrange", "halfway between each element's extremes"] in listed
    assert {"mean", "ties"} < {words[0] for words in listed if words}
    [row] = json.loads("".join(run_coldfuse("methods", "midrange", "--json").succeed().lines))
    assert row["source"] == "any textbook of statistics"
    assert row["parameters"] == {
        "upper": {"default": 0.5, "meaning": "How far from the smallest value to the largest."}
    }


def test_an_installed_method_fuses(site: Path, base: Path, tmp_path: Path) -> None:
    install(site, POINTS)
    (one, first), (other, second) = finetuned(tmp_path, 1), finetuned(tmp_path, 2)
    method = ("--method", "midrange(upper=0.25) then extrapolate(alpha=1)")
    run_coldfuse("fuse", base, one, other, *method, "--out", tmp_path / "out").succeed()
    fused = read(tmp_path / "out")
    for name in first:
        step = 1.5 * np.minimum(first[name], second[name]) + 0.5 * np.maximum(first[name], second[name])
        np.testing.assert_allclose(fused[name].floats, MODEL[name].floats + step, rtol=0, atol=2e-7)
    assert fused["layer.bias"] == MODEL["layer.bias"]


def test_a_wrong_parameter_of_an_installed_method_is_told_the_right_ones(site: Path, base: Path) -> None:
    install(site, POINTS)
    fuse = ("fuse", base, base, "--out", base / "out", "--method")
    assert refusal(run_coldfuse(*fuse, "midrange(uper=0.1)")) == (
        "coldfuse: midrange has no parameter 'uper'; it has upper"
    )


def test_a_method_that_is_not_installed_is_not_known(base: Path) -> None:
    said = refusal(run_coldfuse("fuse", base, base, "--out", base / "out", "--method", "midrange"))
    assert said.startswith("coldfuse: fusion method 'midrange' is not known; known are mean, weighted-mean, ")


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ({"lost": "nowhere:Midrange"}, "cannot be loaded: No module named 'nowhere'; repair or remove that package"),
        ({"lost": "coldfuse_midrange:Nothing"}, "cannot be loaded: module 'coldfuse_midrange' has no attribute"),
        ({"lost": "coldfuse_midrange"}, "expected a subclass of Transform, Combiner or Outer"),
        ({"lost": "coldfuse_midrange:Field"}, "expected a subclass of Transform, Combiner or Outer"),
        ({"lost": "coldfuse_midrange:Float64"}, "expected a subclass of Transform, Combiner or Outer"),
        ({"mean": "coldfuse_midrange:Midrange"}, "there is a fusion method of this name already; rename it"),
    ],
)  # fmt: skip
def test_a_broken_package_is_named_in_one_line(site: Path, points: dict[str, str], says: str) -> None:
    install(site, POINTS | points)
    said = refusal(run_coldfuse("methods"))
    [(name, value)] = points.items()
    assert said.startswith(f"coldfuse: entry point {name} = {value} of coldfuse-midrange: {says}")


def test_two_packages_with_a_method_of_the_same_name_are_refused(site: Path) -> None:
    install(site, POINTS)
    install(site, POINTS, name="another-midrange")
    assert "there is a fusion method of this name already; rename it" in refusal(run_coldfuse("methods"))


def test_the_packages_own_tests_are_the_laws(site: Path) -> None:
    install(site, POINTS)
    shutil.copy(PACKAGE / "check_laws.py", site)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "check_laws.py"]
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
