"""What makes unit tests quick without changing what they see."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 256 << 20


class Folders:
    """What the tests use of pytest's factory of folders."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def mktemp(self, name: str) -> Path:
        return Path(mkdtemp(prefix=f"{name}-", dir=self._root))


@pytest.fixture(scope="session")
def tmp_path_factory() -> Iterator[Folders]:
    """Folders in memory where there is room: a store asks thousands of times for its files to be on the disk.

    The contract and fault tests have theirs on the disk.
    """
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED_BYTES
    with TemporaryDirectory(prefix="coldfuse-", dir=MEMORY if has_room else None) as root:
        yield Folders(Path(root))


@pytest.fixture
def tmp_path(tmp_path_factory: Folders) -> Iterator[Path]:
    """A folder that is gone after the test."""
    folder = tmp_path_factory.mktemp("test")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_collection() -> None:
    """Collect no garbage while modules are imported: there is none, and every look at what they hold takes longer."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later look, of which pytest itself takes several at the end."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave hypothesis out where no test uses it: its plug-in would import it to say that it has nothing to say."""
    if "hypothesis" not in sys.modules:
        session.config.pluginmanager.unregister(name="hypothesispytest")
