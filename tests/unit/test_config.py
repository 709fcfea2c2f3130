"""What is set before libraries read the environment."""

import os
from pathlib import Path

import pytest

from coldfuse import config
from coldfuse.config import prepare_ray
from coldfuse.errors import UserInputError

LONG = "/scratch/" + "slurm_job_" * 12


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("TMPDIR", "RAY_TMPDIR"):
        os.environ.pop(name, None)
    monkeypatch.setattr(config, "_SHORT_FOLDERS", (str(tmp_path / "gone" / "file"), str(tmp_path)))
    (tmp_path / "gone").touch()


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_ray_gets_a_folder_that_its_sockets_fit_below(tmp_path: Path, variable: str) -> None:
    os.environ[variable] = LONG
    prepare_ray()
    folder = Path(os.environ["RAY_TMPDIR"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("folder", [None, "/scratch/job"])
def test_a_folder_that_is_short_enough_is_left_to_ray(folder: str | None) -> None:
    if folder:
        os.environ["TMPDIR"] = folder
    prepare_ray()
    assert "RAY_TMPDIR" not in os.environ


def test_without_a_short_folder_one_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_SHORT_FOLDERS", config._SHORT_FOLDERS[:1])
    os.environ["TMPDIR"] = LONG
    with pytest.raises(
        UserInputError, match=f"TMPDIR is {LONG}: Ray .*; set RAY_TMPDIR to a folder with a shorter name"
    ):
        prepare_ray()
