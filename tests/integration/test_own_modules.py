"""Somebody's own training in a federation that shares a module on a frozen body."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from own_training import aggregating, released
from shared_modules import body, make_shared_federation

import coldfuse

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import BertForSequenceClassification

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

UP = "lora_B"


def test_the_shared_adapter_goes_on_from_round_to_round_and_nothing_else_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frozen = body(tmp_path, "bert")
    held = make_shared_federation(tmp_path, frozen, "lora(rank=2)", quorum=1)
    with aggregating(held), coldfuse.connect(held.store.url) as federation:
        federation.fetch("fetched")
        task = BertForSequenceClassification.from_pretrained(frozen, num_labels=2)
        model = coldfuse.load_module(task, "fetched")
        for _ in range(2):
            with federation.round(name="ada") as round_:
                round_.load_into(model)
                begin = released(held, round_.base_release)
                with torch.no_grad():
                    for name, parameter in model.named_parameters():
                        if UP in name:
                            parameter.add_(0.1)
                made = {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if UP in name}
                round_.contribute(model, num_examples=2)
        now = released(held)
    assert held.latest().release == 2
    assert all("lora" in name for name in now)
    assert all(not torch.equal(begin[name], now[name]) for name in now if UP in name)
    assert len(made) == sum(UP in name for name in now)
