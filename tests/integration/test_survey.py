"""The survey of architectures, each of its cells: names and numbers as transformers and PEFT have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from architectures import KINDS
from survey import WAYS

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and PEFT deprecate each other


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", KINDS)
def test_every_architecture_is_fused_as_it_should_be(name: str, way: str, tmp_path: Path) -> None:
    assert WAYS[way](KINDS[name], tmp_path) < 5e-7
