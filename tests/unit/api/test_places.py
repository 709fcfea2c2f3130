from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coldfuse.api.places import locate, locate_file, resolve_model
from coldfuse.errors import UserInputError


def test_what_is_here_and_what_is_in_s3_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "delta.safetensors").touch()
    assert locate(tmp_path) == locate(str(tmp_path)) == tmp_path
    assert locate(tmp_path / "delta.safetensors") == tmp_path / "delta.safetensors"
    assert locate("s3://bucket/model") == locate_file("s3://bucket/model") == "s3://bucket/model"


@pytest.mark.parametrize("given", ["nothing.safetensors", "./nothing", "/nothing", "a/b/c"])
def test_what_is_not_here_is_told(given: str) -> None:
    with pytest.raises(UserInputError, match="no such f"):
        locate(given)


def test_a_file_is_no_folder_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserInputError, match=r"model\.safetensors: a file; expected the folder of a model"):
        resolve_model(str(tmp_path / "model.safetensors"))


def test_a_hub_that_is_out_of_reach_is_told_in_one_line() -> None:
    code = "import coldfuse; coldfuse.fuse('somebody/model', ['.'], out='nothing')"
    command = ["env", "HF_HUB_OFFLINE=1", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()[-1]
    assert told.startswith(
        "coldfuse.errors.UserInputError: somebody/model: no such folder, and the hub has it not or is"
    )
