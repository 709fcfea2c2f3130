"""What `fuse`, `init` and `fetch` say of what is not in their results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_folders import listed, write_files, write_modules, write_pipeline
from tiny_rounds import make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app

CONFIG = {"model_type": "odd", "auto_map": {"AutoModel": "modeling_odd.Odd"}}
NAMED = "modeling_odd.py (code that config.json names, so that the model does not load without; "


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def base(tmp_path: Path) -> Path:
    beside = {"README.md": "x", "optimizer.pt": "x", ".git/config": "x", "modeling_odd.py": "", "a\nb.csv": ""}
    return write_files(write_model(tmp_path / "base", make_model()), {"config.json": CONFIG, **beside})


def test_fusing_says_what_is_left_out_before_and_after(base: Path, tmp_path: Path) -> None:
    line = (
        f"left out of {base}: README.md (documents); .git/ (hidden); a?b.csv (not known to belong to a model); "
        f"optimizer.pt (training state); {NAMED}--with-code copies it)"
    )
    words = ("fuse", base, base, "--out", tmp_path / "out")
    plan, said = run(*words, "--plan"), run(*words)
    assert line_of(plan) == line_of(said) == line
    assert said.splitlines()[-1].startswith("digest ")


def line_of(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("left out of"))


@pytest.mark.parametrize("option", ["--plan", "--explain=model"])
def test_json_has_every_name(base: Path, tmp_path: Path, option: str) -> None:
    write_files(base, {f"rng_state_{n}.pth": "" for n in range(20)})
    said = json.loads(run("fuse", base, base, "--out", tmp_path / "out", option, "--json"))
    found = {item["why"]: item["names"] for item in said["left_out"] if item["what"] == str(base)}
    assert len(found["training state"]) == 21
    assert found[next(why for why in found if why.startswith("code"))] == ["modeling_odd.py"]


def test_many_of_a_kind_are_counted(base: Path, tmp_path: Path) -> None:
    write_files(base, {f"rng_state_{n}.pth": "" for n in range(20)})
    said = line_of(run("fuse", base, base, "--out", tmp_path / "out"))
    assert "optimizer.pt, rng_state_0.pth, rng_state_1.pth, rng_state_10.pth and 17 more (training state)" in said


def test_nothing_is_said_where_nothing_is_left_out(tmp_path: Path) -> None:
    base = write_modules(tmp_path / "base")
    assert "left out" not in run("fuse", base, base, "--out", tmp_path / "out")
    assert json.loads(run("fuse", base, base, "--out", tmp_path / "other", "--json"))["left_out"] == []
    assert "left out" not in run("init", tmp_path / "store", "--base", base)


def test_code_comes_on_request(base: Path, tmp_path: Path) -> None:
    said = run("fuse", base, base, "--out", tmp_path / "out", "--with-code")
    assert "code" not in line_of(said)
    assert (tmp_path / "out" / "modeling_odd.py").is_file()
    result = CliRunner().invoke(app, ["fuse", str(base), str(base), "--out", "x", "--as", "delta", "--with-code"])
    assert str(result.exception) == "--with-code is for models, and this makes one delta; leave it out"


def test_a_federation_and_its_consumers_are_told_of_code_that_no_release_has(base: Path, tmp_path: Path) -> None:
    created = run("init", tmp_path / "store", "--base", base)
    assert f"{NAMED}no release has it, so who loads one needs it, too)" in line_of(created)
    fetched = run("fetch", tmp_path / "store", "--out", tmp_path / "out")
    line = "left out of release 0: modeling_odd.py (code that config.json names, and not there)"
    assert line_of(fetched) == line
    again = json.loads(run("fetch", tmp_path / "store", "--out", tmp_path / "out", "--json"))
    assert again["left_out"] == [
        {"what": "release 0", "names": ["modeling_odd.py"], "why": "code that config.json names, and not there"}
    ]
    (tmp_path / "out" / "modeling_odd.py").write_text("")
    assert json.loads(run("fetch", tmp_path / "store", "--out", tmp_path / "out", "--json"))["left_out"] == []


@pytest.mark.parametrize(
    ("write", "loader"),
    [(write_modules, "SentenceTransformer"), (write_pipeline, "DiffusionPipeline.from_pretrained")],
)
def test_a_folder_of_folders_is_published_and_fetched_whole(tmp_path: Path, write, loader: str) -> None:
    base = write(tmp_path / "base", **{"README.md": "x"})
    created = run("init", tmp_path / "store", "--base", base)
    assert "left out of" in created
    fetched = run("fetch", tmp_path / "store", "--out", tmp_path / "out")
    assert f'load it with {loader}("{tmp_path / "out"}")' in fetched
    assert created.splitlines()[-1] == fetched.splitlines()[-1]
    beside = {"model.sig", "provenance.json", "README.md"}
    assert beside <= set(listed(tmp_path / "out"))
    assert [name for name in listed(tmp_path / "out") if ".coldfuse" not in name and name not in beside] == [
        name for name in listed(base) if name != "README.md"
    ]
    assert (tmp_path / "out" / "README.md").read_text() != "x"  # the base's own card stays with the base
    again = run("init", tmp_path / "again", "--base", tmp_path / "out")
    assert "model.sig, provenance.json (signatures of what lay there)" in again
    for name in listed(base):
        assert name == "README.md" or (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
