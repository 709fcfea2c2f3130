"""Fixtures of all tests."""

import os
from collections.abc import Iterator

import pytest

from coldfuse.core import blob
from coldfuse.tensors import contents, model_digest

pytest_plugins = ["servers.fixtures"]

_NOT_TRACED = frozenset({"e2e", "fault", "fuzz"})
"""Folders of tests that say nothing of what share of the code the tests run: they repeat what others run, killed,
attacked or in processes of their own, and take a fifth longer where it is traced."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the coverage of some folders out, where it is measured."""
    for item in items:
        if item.path.parent.name in _NOT_TRACED:
            item.add_marker("no_cover")


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep keys and trusted roots in a folder of the tests' own, also those of programs that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDFUSE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out what only a loss of power would need: tests kill processes, whose pages the system keeps.

    A busy disk makes each wait of some tests' hundreds of rounds long. Programs that tests start wait as ever.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # what is no open file is still an error
        yield


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut files at 128 bytes instead of 16 MiB, so that tiny models have many parts, and tensors several."""
    for module, name in ((blob, "MIN_PART_BYTES"), (model_digest, "BLOCK_BYTES"), (contents, "BLOCK_BYTES")):
        monkeypatch.setattr(module, name, 128)
    return 128


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 also where the processor multiplies bf16 itself, for tests that look at digits."""
    for module in ("compute", "intake", "trainer_arguments"):
        monkeypatch.setattr(f"coldfuse.training.{module}.computes_bf16", lambda _: False)
