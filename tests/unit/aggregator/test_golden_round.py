"""The bytes of a small round of an earlier version: written once, by numpy alone, and never changed by a refactor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folder_fusions import fuse

from coldfuse.tensors.checkpoint import open_checkpoint

GOLDEN = Path(__file__).parents[2] / "data" / "golden_round"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
NAMES = list(EXPECTED["weights"])


def test_the_base_has_the_digest_it_always_had() -> None:
    assert open_checkpoint(GOLDEN / "base").digest() == EXPECTED["base"]


@pytest.mark.parametrize("method", EXPECTED["fused"])
def test_the_fused_model_has_the_digest_it_always_had_in_any_order(tmp_path: Path, method: str) -> None:
    for number, order in enumerate((NAMES, NAMES[::-1])):
        weights = [float(EXPECTED["weights"][name]) for name in order] if method == "weighted-mean" else None
        deltas = [GOLDEN / f"{name}.safetensors" for name in order]
        digest = fuse(GOLDEN / "base", deltas, tmp_path / f"out-{number}", method, weights=weights)
        assert digest == EXPECTED["fused"][method]
