"""Methods against attacks, with contributors that really train: a tiny model, an easy task, and the real rules."""

from __future__ import annotations

import json
import random

import pytest
from tiny_model import write_tiny_model
from typer.testing import CliRunner

from coldfuse.cli.main import app


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adversaries")
    base = write_tiny_model(folder / "base", hidden_size=16, num_layers=1)
    rng, lines = random.Random(0), ["text,label"]
    for index in range(160):
        good = index % 2
        mood = rng.choice(("good", "great", "fine", "lovely") if good else ("bad", "awful", "poor", "dull"))
        lines.append(f"the {rng.choice('abcdefgh')} film {index} was very {mood},{'good' if good else 'bad'}")
    (folder / "films.csv").write_text("\n".join(lines))
    return ["--data", folder / "films.csv", "--base", base, "--work", folder / "work", "--examples", 20,
            "--contributors", 6, "--faults", "malicious=0.34", "--epochs", 1]  # fmt: skip


def run(*words):
    result = CliRunner().invoke(app, ["simulate", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def found(words):
    attacks = [word for name in ("gaussian", "mimic", "replacement", "thin") for word in ("--attack", name)]
    methods = ["--method", "mean", "--method", "krum(byzantine=2)"]
    return json.loads(run(*words, *attacks, *methods, "--json").stdout)


def cell(found, attack, method, screening):
    (it,) = [c for c in found["cells"] if (c["attack"], c["method"], c["screening"]) == (attack, method, screening)]
    return it


def test_every_method_meets_every_attack_with_screening_and_without(found):
    assert len(found["cells"]) == 5 * 2 * 2  # nobody hostile, and four attacks
    assert (found["num_contributors"], found["num_hostile"]) == (6, 2)
    krum = cell(found, "mimic", "krum(byzantine=2)", False)
    assert krum["accuracy"] is None  # six are too few for two bad ones
    assert "at least 7" in krum["reason"]


def test_screening_takes_out_whom_it_is_for_and_nobody_else(found):
    rejected = {r["attack"]: (r["hostile_rejected"], r["benign_rejected"]) for r in found["rejections"]}
    assert rejected == {"none": (0, 0), "gaussian": (2, 0), "mimic": (2, 0), "replacement": (2, 0), "thin": (0, 0)}


def test_without_the_hostile_the_model_is_that_of_the_honest(found):
    screened = {cell(found, attack, "mean", True)["accuracy"] for attack in ("gaussian", "mimic", "replacement")}
    assert len(screened) == 1
    assert cell(found, "none", "mean", True)["accuracy"] == cell(found, "none", "mean", False)["accuracy"]


def test_back_doors_are_measured_where_there_is_one(found):
    assert 0 <= cell(found, "replacement", "mean", False)["success"] <= 1
    assert cell(found, "mimic", "mean", False)["success"] is None


def test_what_was_trained_and_scored_is_kept(words, found):
    (folder,) = words[words.index("--work") + 1].iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    said = run(*words, "--attack", "mimic", "--method", "mean").stdout
    assert "| mimic | " in said
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
