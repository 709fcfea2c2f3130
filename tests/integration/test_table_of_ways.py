"""The table of ways is true: README, code, PEFT and real deltas say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.test_ways_of_peft import LINES
from tiny_model import write_tiny_model

from coldfuse.adapters.types import NO_WEIGHTS
from coldfuse.fusion.methods import METHODS
from coldfuse.tensors.changes import Change, DenseChange, LowRankChange, SparseChange
from coldfuse.training.ways import WAYS
from coldfuse.training.ways.table import WayInfo, list_ways, table_of_ways

README = Path(__file__).parents[2] / "README.md"
FORMS: dict[str, type[Change]] = {"dense": DenseChange, "factors": LowRankChange, "sparse": SparseChange}
MINILM_PARAMETERS = 22_713_216


@pytest.fixture(scope="module")
def ways() -> dict[str, WayInfo]:
    return {name: info for info in list_ways() for name in info.names}


def test_the_readme_has_the_table() -> None:
    assert table_of_ways() in README.read_text()


def test_every_type_of_peft_is_a_way_or_has_its_reason(ways: dict[str, WayInfo]) -> None:
    from peft import PeftType

    types = {kind.value for kind in PeftType}
    assert set(ways) == set(WAYS)
    assert types - {name.upper().replace("-", "_") for name in ways} == set(NO_WEIGHTS)
    assert all(NO_WEIGHTS.values())


def test_methods_that_suit_are_there(ways: dict[str, WayInfo]) -> None:
    named = {part for info in ways.values() for part in info.methods.split("`")[1::2]}
    assert named
    assert named <= set(METHODS)


def test_changes_have_the_form_that_the_table_says(ways: dict[str, WayInfo]) -> None:
    for line, kind in LINES.items():
        name, _, settings = line.partition("(")
        if not settings or name in ("shira", "waveft", "miss", "vera", "gralora", "loha", "trainable-tokens"):
            assert FORMS[ways[name].form] is kind, line


def test_sizes_are_those_of_the_weights(ways: dict[str, WayInfo]) -> None:
    full, bias, lora = ways["full"], ways["bias"], ways["lora"]
    layer = [(384, 384)] * 4 + [(1536, 384), (384, 1536)]
    pooler = 384 + 384
    assert full.minilm_bytes == 4 * MINILM_PARAMETERS
    assert lora.minilm_bytes == 4 * 8 * (6 * sum(rows + columns for rows, columns in layer) + pooler)
    assert bias.minilm_bytes == 4 * (6 * (4 * 384 + 1536 + 384 + 2 * 384) + 384 + 384)
    assert full.llama_bytes == 4 * 6_738_415_616
    assert bias.llama_bytes is None


@pytest.mark.parametrize("name", ["bias", "norms", "lora", "adalora"])
def test_a_real_delta_has_the_size_that_is_counted(
    name: str, ways: dict[str, WayInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import BertModel

    from coldfuse.tensors.changes import write_changes
    from coldfuse.tensors.checkpoint import open_checkpoint
    from coldfuse.tensors.tensor_reader import TensorReader
    from coldfuse.training.model import shared_tensors, stored_names_in
    from coldfuse.training.ways import Base, parse_way, table

    base = open_checkpoint(write_tiny_model(tmp_path / "base"))
    model = BertModel.from_pretrained(tmp_path / "base")
    way = parse_way(f"{name}(rank=2)" if "lora" in name else name)
    way.prepare(model, stored_names_in(model, model, base.schema.keys()))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.5
    with TensorReader(base.files.values()) as theta:
        changes = way.changes(model, Base(tensors=lambda m: shared_tensors(m, base.schema.keys()), floats=theta.floats))
        blob = write_changes(tmp_path / "delta", base.schema, changes, dtype="F32", base_digest=base.digest())
    monkeypatch.setitem(table._RANK_OF, "LORA", lambda _: 2)
    monkeypatch.setitem(table._RANK_OF, "ADALORA", lambda _: 2)
    with torch.device("meta"):
        counted = table._bytes(WAYS[name], BertModel(model.config), ways[name].form)
    assert 0 < blob.size_bytes - counted < 12_000  # the header
