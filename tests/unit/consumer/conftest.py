"""Federations to fetch from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import contribute, lead, make_federation, make_model

from coldfuse.registry.federation import Federation


def make_releases(root: Path, *, seed: int = 0) -> Federation:
    """Make a federation with releases 0 and 1, of two files each, which differ in few parts."""
    federation = make_federation(root, make_model(seed), num_files=2)
    lead(federation)
    for name in ("ada", "ben"):
        changes = {"layer.bias": np.full(8, 0.5, np.float32), "scale": np.float32(ord(name[0])).reshape(())}
        contribute(federation, name, changes)
    lead(federation)
    return federation


@pytest.fixture(scope="module")
def made() -> dict[str, Federation]:
    """Federations that are made once a module, because they are only read."""
    return {}


@pytest.fixture
def federation(made: dict[str, Federation], tmp_path_factory, small_parts: int) -> Federation:
    """A federation that is only read."""
    if "federation" not in made:
        made["federation"] = make_releases(tmp_path_factory.mktemp("federation"))
    return made["federation"]


@pytest.fixture
def other(made: dict[str, Federation], tmp_path_factory, small_parts: int) -> Federation:
    """A federation of another model, of one file, that is only read."""
    if "other" not in made:
        made["other"] = make_federation(tmp_path_factory.mktemp("other"), make_model(5), num_files=1)
    return made["other"]
