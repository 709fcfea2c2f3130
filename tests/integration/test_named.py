"""Whoever agrees to be named says so in what they sign; whoever says nothing sends what was always sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_rounds import finetune, lead, make_federation, make_model, read_model, write_model

import coldfuse
from coldfuse.contributor.settings import NodeSettings
from coldfuse.training.settings import TrainingSettings


@pytest.mark.parametrize("named", [True, False])
def test_the_manifest_says_whether_its_contributor_agrees(tmp_path: Path, named: bool) -> None:
    federation, out = make_federation(tmp_path, make_model()), tmp_path / "out"
    lead(federation, 1)
    with coldfuse.connect(federation.store.url) as connected:
        connected.fetch(out)
        tuned = write_model(tmp_path / "tuned", finetune(read_model(out), seed=5))
        sent = connected.contribute(tuned, num_examples=5, name="Dora", base=out, named=named, wait=False)
    manifest = json.loads(federation.objects.get(sent.contribution))
    assert manifest["display_name"] == "Dora"
    assert ("is_named" in manifest, manifest.get("is_named", False)) == (named, named)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_node_is_named_only_if_it_was_told_so(is_named: bool) -> None:
    settings = NodeSettings(
        name="Dora", train=None, validation=None, training=TrainingSettings(), is_named=is_named
    )  # fmt: skip
    assert settings.who.is_named is is_named
