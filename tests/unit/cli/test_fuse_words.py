"""What `coldfuse fuse` says of what it did, and what it refuses to do in silence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import floats, make_model, parse_file, write_file, write_model
from typer.testing import CliRunner

from coldfuse.cli import main as command
from coldfuse.cli.main import app
from coldfuse.engine.staging import scratch_beside
from coldfuse.errors import CodecError, ColdfuseError, UserInputError

NESTEROV = ("--method", "mean then nesterov")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_model(tmp_path / str(seed), make_model(seed)) for seed in range(3)]


def fuse(folders: list[Path], out: Path, *options: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in ("fuse", *folders, "--out", out, *options)])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("count", [1, 2])
def test_one_model_is_not_called_models(folders: list[Path], tmp_path: Path, count: int) -> None:
    said = fuse(folders[: 1 + count], tmp_path / "out")
    assert said.startswith(f"fused {'1 model' if count == 1 else '2 models'} by mean into ")


def test_a_report_says_whether_an_outer_state_goes_on(folders: list[Path], tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert "outer state begins: round 1\n" in fuse(folders, one, *NESTEROV)
    assert "outer state continues: round 2\n" in fuse([one, *folders[1:]], two, *NESTEROV)
    said = json.loads(fuse([two, *folders[1:]], three, *NESTEROV, "--json"))
    assert said["outer"] == {"continues": True, "round": 3}
    assert "outer" not in fuse([one, *folders[1:]], tmp_path / "four")


@pytest.mark.parametrize("options", [(), ("--plan",), ("--tune", "momentum.lr=0.1,0.2", "--data", "none.csv")])
def test_an_outer_state_of_other_steps_is_refused(
    folders: list[Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    fuse(folders, tmp_path / "one", *NESTEROV)
    with pytest.raises(UserInputError, match=r"one/outer: .* was made by nesterov, and this is momentum; remove the f"):
        fuse([tmp_path / "one", *folders[1:]], tmp_path / "two", "--method", "mean then momentum", *options)
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_outer_state_is_not_blamed_on_a_model(folders: list[Path], tmp_path: Path, value: float) -> None:
    fuse(folders, tmp_path / "one", *NESTEROV)
    state = tmp_path / "one" / "outer" / "momentum" / "model.safetensors"
    tensors = parse_file(state.read_bytes())
    write_file(state, tensors | {"layer.bias": floats([0, 0, value, 0, 0, 0, 0, 0])})
    with pytest.raises(CodecError, match=r"momentum/model\.safetensors: tensor layer\.bias: the outer state is broken"):
        fuse([tmp_path / "one", *folders[1:]], tmp_path / "two", *NESTEROV)
    assert not (tmp_path / "two").exists()


def test_a_model_that_is_too_large_is_not_blamed_on_the_state(folders: list[Path], tmp_path: Path) -> None:
    fuse(folders, tmp_path / "one", *NESTEROV)
    huge = shutil.copytree(folders[1], tmp_path / "huge")
    write_file(huge / "model.safetensors", make_model(1) | {"layer.bias": floats([3e38] * 8)})
    with pytest.raises(ColdfuseError, match="far too large"):
        fuse([tmp_path / "one", huge], tmp_path / "two", "--method", "task-arithmetic(scale=9) then nesterov")


def test_a_plan_does_not_leave_tuning_out_in_silence(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="--plan foretells one fusion, and --tune makes many to choose from"):
        fuse(folders, tmp_path / "out", "--method", "ties", "--tune", "density=0.1,0.2", "--plan")
    with pytest.raises(UserInputError, match="nothing here looks at data"):
        fuse(folders, tmp_path / "out", "--method", "ties", "--data", "x.csv", "--plan")


def test_a_parameter_given_twice_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"density is \.3 already; give each parameter once"):
        fuse(folders, tmp_path / "out", "--method", "ties", "--param", "density=.3", "--param", "density=.4")


def test_a_method_in_other_letters_is_told_its_name() -> None:
    error = CliRunner().invoke(app, ["methods", "TIES"]).exception
    assert str(error).startswith("fusion method 'TIES' is not known; did you mean ties? ")


def test_a_request_to_end_leaves_nothing_half_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def work() -> None:
        with scratch_beside(tmp_path / "out", "fusing"):
            seen.extend(os.listdir(tmp_path))
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("went on")

    monkeypatch.setattr(command, "app", work)
    monkeypatch.setattr(sys, "argv", ["coldfuse"])
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("not heard"))
    try:
        with pytest.raises(SystemExit) as caught:
            command.main()
    finally:
        heard = signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 128 + signal.SIGTERM
    assert seen == [f".out.fusing-{os.getpid()}"]
    assert os.listdir(tmp_path) == []
    assert callable(heard)  # what was there before is there again
