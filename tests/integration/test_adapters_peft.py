"""Adapters as PEFT itself saves, merges and loads them: its merged models are the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import write_tiny_model
from torch import nn

from coldfuse.adapters.adapter import Adapter, open_adapter, read_stored
from coldfuse.adapters.factored import factored
from coldfuse.adapters.layout import layout_of
from coldfuse.adapters.recompress import recompress_all
from coldfuse.adapters.writing import write_lora_adapter
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.naming.architecture import Architecture
from coldfuse.tensors.changes import write_changes
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import DENSE, part_name
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, PeftConfig, PeftModel

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own, about settings that are tested here on purpose

LINEAR = ["query", "value", "dense"]
State = dict[str, np.ndarray]


def bert(folder: Path) -> nn.Module:
    from transformers import BertModel

    return BertModel.from_pretrained(folder)


def classifier(folder: Path) -> nn.Module:
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification.from_pretrained(folder)


def gpt2(folder: Path) -> nn.Module:
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    )


class Convolutions(nn.Module):
    """Convolutions, as no adapter of a language model has them."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 6, 3)
        self.point = nn.Conv2d(6, 8, 1)


def convolutions(folder: Path) -> nn.Module:
    return Convolutions()


CASES: dict[str, tuple[PeftConfig, Callable[[Path], nn.Module]]] = {
    "lora": (LoraConfig(r=4, lora_alpha=6, target_modules=LINEAR), bert),
    "rslora": (LoraConfig(r=4, target_modules=LINEAR, use_rslora=True), bert),
    "patterns": (
        LoraConfig(r=4, target_modules=LINEAR, rank_pattern={"query": 2}, alpha_pattern={"layer.1.output.dense": 3}),
        bert,
    ),
    "dora": (LoraConfig(r=4, target_modules=LINEAR, use_dora=True), bert),
    "embeddings": (LoraConfig(r=4, target_modules=["query", "word_embeddings"]), bert),
    "lora bias": (LoraConfig(r=4, target_modules=LINEAR, lora_bias=True), bert),
    "bias all": (LoraConfig(r=4, target_modules=LINEAR, bias="all"), bert),
    "bias lora only": (LoraConfig(r=4, target_modules=LINEAR, bias="lora_only"), bert),
    "orthogonal": (LoraConfig(r=4, target_modules=LINEAR, init_lora_weights="orthogonal"), bert),
    "classifier": (
        LoraConfig(r=4, target_modules=["query"], task_type="SEQ_CLS", modules_to_save=["pooler"], bias="all"),
        classifier,
    ),
    "ia3": (IA3Config(target_modules=LINEAR, feedforward_modules=["dense"]), bert),
    "loha": (LoHaConfig(r=3, alpha=5, target_modules=LINEAR), bert),
    "lokr": (LoKrConfig(r=4, alpha=5, target_modules=LINEAR), bert),
    "lokr of factors": (LoKrConfig(r=2, target_modules=LINEAR, decompose_both=True, decompose_factor=8), bert),
    "gpt2": (LoraConfig(r=4, target_modules=["c_attn", "c_proj", "wte"]), gpt2),
    "gpt2 ia3": (IA3Config(target_modules=["c_attn", "c_proj"], feedforward_modules=["c_proj"]), gpt2),
    "convolutions": (LoraConfig(r=2, target_modules=["wide", "point"]), convolutions),
    "dora of convolutions": (LoraConfig(r=2, target_modules=["wide", "point"], use_dora=True), convolutions),
    "ia3 of convolutions": (IA3Config(target_modules=["wide", "point"], feedforward_modules=["point"]), convolutions),
    "loha of convolutions": (LoHaConfig(r=2, target_modules=["wide", "point"]), convolutions),
    "lokr of convolutions": (LoKrConfig(r=2, target_modules=["wide", "point"]), convolutions),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


def state_of(model: nn.Module) -> State:
    return {name: value.detach().double().numpy().copy() for name, value in model.named_parameters()}


def schema_of(state: State) -> Schema:
    return {name: TensorSpec(dtype="F32", shape=values.shape) for name, values in state.items()}


def train(model: nn.Module, config: PeftConfig) -> PeftModel:
    """Put an adapter on a model and numbers into everything that it trains."""
    wrapped = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, value in wrapped.named_parameters():
        if value.requires_grad:
            offset = 1.0 if "magnitude" in name or "ia3" in name else 0.0
            value.data = offset + 0.2 * torch.randn(value.shape, generator=generator)
    return wrapped


def delta_of(adapter: Adapter, name: str, state: State, step: int | None = None) -> np.ndarray:
    tensor = adapter.tensors[name]
    rows, columns = tensor.rows_columns
    base = state[name].reshape(rows, columns)
    step = step or rows
    starts = range(0, rows, step)
    parts = [tensor.delta_rows(read_stored, base[i : i + step], i, min(step, rows - i)) for i in starts]
    return np.concatenate(parts).reshape(tensor.shape)


PRODUCTS = {
    "lora", "rslora", "patterns", "embeddings", "lora bias", "bias all", "bias lora only", "orthogonal", "classifier",
    "gpt2", "convolutions",
}  # fmt: skip
"""Adapters whose changes of weights are products, and travel as their factors."""


def travelling(adapter: Adapter, before: State, path: Path) -> bool:
    """Send an adapter as its factors; what arrives has the very bits of the adapter. Return False if it has none."""
    schema = schema_of(before)
    found = {name: change for name, t in adapter.tensors.items() if (change := factored(t, read_stored))}
    write_changes(path, schema, found, dtype="F32", base_digest="0" * 64)
    file = open_tensors(LocalFile(path))
    sent = check_delta(file.header, schema, base_digest="0" * 64, what="delta")
    assert sent.keys() == found.keys()
    with TensorReader([file]) as reader:
        for name, how in sent.items():
            whole = delta_of(adapter, name, before).reshape(-1)
            if how is DENSE:  # of factors that are no smaller
                assert reader.floats(name).tobytes() == whole.astype(np.float32).astype(np.float64).tobytes()
                continue
            for step in (1, 7, whole.size):
                runs = [
                    how.delta(
                        schema[name].shape,
                        lambda part, first, count, name=name: reader.numbers(part_name(name, part), first, count),
                        first, min(step, whole.size - first),
                    )
                    for first in range(0, whole.size, step)
                ]  # fmt: skip
                assert np.concatenate(runs).tobytes() == whole.tobytes()
    return bool(found)


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_is_the_delta_of_its_merged_model(case: str, base: Path, tmp_path: Path) -> None:
    config, build = CASES[case]
    torch.manual_seed(0)
    model = build(base)
    for value in model.parameters():
        value.data += 0.1 * torch.randn(value.shape)  # a new model's biases are zero, and would hide what scales them
    prefix = "bert." if build is classifier else ""
    before = {name.removeprefix(prefix): v for name, v in state_of(model).items() if name.startswith(prefix)}
    wrapped = train(model, config)
    wrapped.save_pretrained(tmp_path)
    after = state_of(wrapped.merge_and_unload())
    adapter = open_adapter(tmp_path, schema_of(before), what=case)
    changed = {name for name, values in before.items() if (after[prefix + name] != values).any()}
    assert set(adapter.tensors) == changed
    assert adapter.ignored == (("classifier.bias", "classifier.weight") if prefix else ())
    for name in changed:
        delta = delta_of(adapter, name, before)
        np.testing.assert_allclose(delta, after[prefix + name] - before[name], rtol=1e-6, atol=1e-6)
        assert all(delta_of(adapter, name, before, step).tobytes() == delta.tobytes() for step in (1, 5))
    assert travelling(adapter, before, tmp_path / "delta") == (case in PRODUCTS)


def test_an_embedding_that_is_saved_with_its_factors_counts_once(base: Path, tmp_path: Path) -> None:
    model = bert(base)
    before = state_of(model)
    wrapped = train(model, LoraConfig(r=4, target_modules=["word_embeddings"]))
    wrapped.save_pretrained(tmp_path, save_embedding_layers=True)
    name = "embeddings.word_embeddings.weight"
    after = state_of(wrapped.merge_and_unload())
    adapter = open_adapter(tmp_path, schema_of(before), what="a")
    np.testing.assert_allclose(delta_of(adapter, name, before), after[name] - before[name], rtol=1e-6, atol=1e-6)


def test_pissa_is_read_once_peft_has_converted_it(base: Path, tmp_path: Path) -> None:
    model = bert(base)
    before = state_of(model)
    wrapped = peft.get_peft_model(model, LoraConfig(r=2, target_modules=["query"], init_lora_weights="pissa"))
    wrapped.peft_config["default"].init_lora_weights = True
    wrapped.save_pretrained(tmp_path / "start")
    wrapped.peft_config["default"].init_lora_weights = "pissa"
    for value in (value for value in wrapped.parameters() if value.requires_grad):
        value.data += 0.1
    wrapped.save_pretrained(tmp_path / "out", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    after = state_of(wrapped.merge_and_unload())
    adapter = open_adapter(tmp_path / "out", schema_of(before), what="a")
    for name in adapter.tensors:
        np.testing.assert_allclose(delta_of(adapter, name, before), after[name] - before[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_peft_loads_a_written_adapter(prefix: str, base: Path, tmp_path: Path) -> None:
    model = (classifier if prefix else bert)(base)
    before, schema = state_of(bert(base)), schema_of(state_of(bert(base)))
    rng = np.random.default_rng(0)
    names = [name for name in before if "layer.1" in name or "word_embeddings" in name]
    deltas = {name: 0.1 * rng.normal(size=before[name].shape) for name in names}
    layout = layout_of(Architecture(model), schema, dtype="F32")
    result = recompress_all(schema, names, deltas.__getitem__, rank=40, layout=layout)
    write_lora_adapter(tmp_path / "out", str(base), result.factors, schema=schema, layout=layout)
    after = state_of(PeftModel.from_pretrained(model, tmp_path / "out").merge_and_unload())
    assert len(result.factors) == 7
    for name, values in before.items():
        delta = deltas[name] if name in result.factors else np.zeros(values.shape)
        np.testing.assert_allclose(after[prefix + name] - values, delta, rtol=1e-5, atol=1e-6)


def test_peft_loads_a_written_adapter_of_gpt2(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = gpt2(base)
    before, rng = state_of(model), np.random.default_rng(0)
    deltas = {name: 0.1 * rng.normal(size=v.shape) for name, v in before.items() if v.ndim == 2}
    schema = schema_of(before)
    layout = layout_of(Architecture(model), schema, dtype="F32")
    result = recompress_all(schema, deltas, deltas.__getitem__, rank=16, layout=layout)
    write_lora_adapter(tmp_path / "out", "gpt2", result.factors, schema=schema, layout=layout)
    after = state_of(PeftModel.from_pretrained(model, tmp_path / "out").merge_and_unload())
    for name, delta in deltas.items():
        np.testing.assert_allclose(after[name] - before[name], delta, rtol=1e-5, atol=1e-6)
