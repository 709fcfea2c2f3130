"""What makes unit tests quick without changing what they see."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest


def look_at(descriptor: int) -> None:
    """Stand in for fsync: refuse what is no open file, and wait for nothing."""
    os.fstat(descriptor)


@pytest.fixture(scope="module", autouse=True)
def files_need_not_reach_the_disk() -> Iterator[None]:
    """No power cut comes between a unit test and its checks; the contract and fault tests do wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", look_at)
        yield


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
