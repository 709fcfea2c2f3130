"""Adapters of PEFT's as ways of training: each type trains, and what is said of it is what its model became."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change, DenseChange, LowRankChange, SparseChange
from coldfuse.training.objectives import Beginning, Terms, parse_objectives
from coldfuse.training.ways import Base, Preparation, moving_tensors, parse_way

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and torch's own

_SMALL = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 32,
}  # fmt: skip
IDS = torch.randint(0, 50, (4, 8), generator=torch.Generator().manual_seed(0))


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return seeded(lambda: BertForSequenceClassification(BertConfig(**_SMALL)))


def llama(**others: object) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return seeded(lambda: LlamaForCausalLM(LlamaConfig(**_SMALL, num_key_value_heads=2, **others)))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    small = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return seeded(lambda: GPT2LMHeadModel(GPT2Config(**small, bos_token_id=0, eos_token_id=0)))


def seeded(build: object) -> nn.Module:
    torch.manual_seed(0)
    model = build()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)  # new biases are zero, and would hide what scales them
    return model


def stored(model: nn.Module) -> dict[str, str]:
    return {name: f"base.{name}" for name, _ in model.named_parameters() if not name.startswith("classifier")}


def base_of(model: nn.Module) -> Base:
    names = stored(model)
    before = {name: value.double().numpy().ravel().copy() for name, value in model.state_dict().items()}

    def tensors(model: nn.Module) -> Mapping[str, Tensor]:
        return {names[name]: value for name, value in model.state_dict().items() if name in names}

    return Base(tensors=tensors, floats=lambda name, first, count: before[name[5:]][first : first + count])


def train(model: nn.Module, num_steps: int = 3) -> None:
    torch.manual_seed(0)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    labels = torch.tensor([0, 1, 0, 1]) if hasattr(model, "classifier") else IDS
    for _ in range(num_steps):
        model(input_ids=IDS, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(input_ids=IDS).logits


def trained(line: str, model: nn.Module, seed: int = 0) -> tuple[dict[str, Change], Tensor]:
    """Train a model one way; return what changed of the base, and what the trained model says."""
    base, way = base_of(model), parse_way(line)
    way.prepare(model, stored(model), Preparation(seed=seed))
    drawn = {name: b.clone() for name, b in model.named_buffers() if name not in moving_tensors(model)}
    train(model)
    assert all(torch.equal(b, drawn[name]) for name, b in model.named_buffers() if name in drawn)
    said = logits(model)
    changes, again = way.changes(model, base), way.changes(model, base)
    tensors = way.finetuned(model, base.tensors)
    for name in changes:  # asked for twice, and as tensors
        tensor = tensors[name].double().numpy().ravel()
        delta = changes[name].read(0, tensor.size)
        assert again[name].read(0, tensor.size).tobytes() == delta.tobytes()
        np.testing.assert_allclose(tensor - base.floats(name, 0, tensor.size), delta, atol=1e-6)
    return {name: fixed(changes[name], model.state_dict()[name[5:]].numel()) for name in changes}, said


def fixed(change: Change, num_elements: int) -> Change:
    """Return a change that no longer reads the model's memory."""
    if not isinstance(change, DenseChange):
        return change
    delta = change.read(0, num_elements)
    return DenseChange(lambda first, count: delta[first : first + count])


def add(model: nn.Module, changes: Mapping[str, Change]) -> set[str]:
    """Add changes to a model that still is the base; return the names of what they move."""
    state, moved = model.state_dict(), set[str]()
    for name, change in changes.items():
        tensor = state[name.removeprefix("base.")]
        delta = torch.from_numpy(change.read(0, tensor.numel())).reshape(tensor.shape)
        if delta.any():
            moved.add(name.removeprefix("base."))
        tensor.copy_(tensor.double() + delta)
    return moved


LINES = {
    "adalora": LowRankChange, "adamss": DenseChange, "beft": DenseChange, "boft": DenseChange, "c3a": DenseChange,
    "deft": DenseChange, "delora": LowRankChange, "fourierft": DenseChange, "frod": DenseChange, "glora": DenseChange,
    "gralora(rank=4, alpha=4)": LowRankChange, "hira": DenseChange, "hra": DenseChange, "ia3": DenseChange,
    "ln-tuning": DenseChange, "loha(rank=2)": LowRankChange, "lokr": DenseChange,
    "lora(rank=4, alpha=8)": LowRankChange,
    "lora(use_dora=true)": DenseChange, "lora(use_rslora=true)": LowRankChange,
    "lora(init_lora_weights=pissa)": DenseChange, 'lora(target_modules="query,word_embeddings")': LowRankChange,
    "lora(bias=all)": LowRankChange, "miss(rank=8)": LowRankChange, "oft": DenseChange, "osf": DenseChange,
    "peanut": DenseChange, "psoft(rank=8)": DenseChange, "pvera": DenseChange, "randlora": DenseChange,
    "road": DenseChange, "shira(rank=2)": SparseChange, "supertuning": SparseChange, "tinylora": LowRankChange,
    'trainable-tokens(token_indices="1,2,3")': SparseChange, "unilora": LowRankChange, "vblora": LowRankChange,
    "vera(rank=8)": LowRankChange, "waveft(n_frequency=100)": SparseChange,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_the_base_and_what_changed_are_the_trained_model(line: str) -> None:
    model = bert()
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("classifier")}
    changes, said = trained(line, model)
    after = model.state_dict()
    moved_in_place = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert all(name.endswith("bias") for name in moved_in_place) or "pissa" in line
    model.load_state_dict(before, strict=False)
    assert add(model, changes) >= {name for name in moved_in_place if name.endswith("bias")}
    torch.testing.assert_close(logits(model), said, rtol=0, atol=1e-5)
    weights = [
        change for change in changes.values() if change.read(0, 1024).any() and not isinstance(change, LINES[line])
    ]
    assert len(weights) <= (len(changes) if "bias" in line else 0 if "ia3" not in line else 4)


def test_what_no_type_of_ours_covers_has_its_reason() -> None:
    from peft import PeftType

    from coldfuse.adapters.types import NO_WEIGHTS
    from coldfuse.training.ways.adapted import TYPES

    assert {kind.value for kind in PeftType} == set(TYPES) | set(NO_WEIGHTS)
    assert {line.partition("(")[0].upper().replace("-", "_") for line in LINES} == set(TYPES)


@pytest.mark.parametrize("line", ["lora(rank=4)", "ia3", "vera(rank=8)", "ln-tuning"])
@pytest.mark.parametrize("build", [llama, gpt2])
def test_language_models_are_trained_by_adapters(build: object, line: str) -> None:
    model = build()
    changes, said = trained(line, model)
    moved = add(model, changes)
    assert moved
    assert not any("lm_head" in name or "embed" in name or "wte" in name for name in moved)
    torch.testing.assert_close(logits(model), said, rtol=0, atol=1e-5)


def test_a_bfloat16_model_is_merged_in_float32() -> None:
    model = llama().to(torch.bfloat16)
    changes, _ = trained("lora(rank=4)", model)
    assert all(isinstance(change, LowRankChange) for change in changes.values())
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    dense, _ = trained("lora(rank=4, use_dora=true)", llama().to(torch.bfloat16))
    state = model.state_dict()
    for name, change in dense.items():
        merged = state[name[5:]].double().ravel()[:512] + torch.from_numpy(change.read(0, 512))
        assert (merged != merged.bfloat16()).double().mean() > 0.9, name


def test_the_seed_says_where_an_adapter_starts() -> None:
    first, again, other = (trained("lora(rank=2)", bert(), seed)[0] for seed in (1, 1, 2))
    name = "base.bert.encoder.layer.0.attention.self.query.weight"
    assert first[name].down.tobytes() == again[name].down.tobytes()
    assert first[name].down.tobytes() != other[name].down.tobytes()


@pytest.mark.parametrize("line", [*LINES, "lora(rank_pattern='{\"query\": 2}', freeze_embeddings=true)"])
def test_a_line_with_all_parameters_means_the_same(line: str) -> None:
    way = parse_way(line)
    assert parse_way(way.line()) == way
    assert parse_way(way.line()).line() == way.line()


@pytest.mark.parametrize("line", ["full", "norms", "layers(last=1)", "lora(rank=2)"])
def test_experts_that_files_hold_apart_are_the_bases_own(line: str, tmp_path: Path) -> None:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    from coldfuse.tensors.checkpoint import open_checkpoint
    from coldfuse.tensors.tensor_reader import TensorReader
    from coldfuse.training.model import shared_tensors, stored_names_in

    own = {"num_key_value_heads": 2, "head_dim": 8, "num_experts": 2, "num_experts_per_tok": 1}
    config = Qwen3MoeConfig(**_SMALL, **own, moe_intermediate_size=16)
    model = seeded(lambda: Qwen3MoeForCausalLM(config))
    model.save_pretrained(tmp_path)
    base = open_checkpoint(tmp_path)
    names = stored_names_in(model, model, base.schema.keys())
    assert set(names) == {name for name, _ in model.named_parameters()}
    way = parse_way(line)
    way.prepare(model, names)
    train(model, 2)
    with TensorReader(base.files.values()) as theta:
        changes = way.changes(model, Base(tensors=lambda m: shared_tensors(m, base.schema.keys()), floats=theta.floats))
        moved = {name for name in changes if changes[name].read(0, base.schema[name].num_elements).any()}
    experts = {name for name in moved if ".experts." in name}
    assert {name.split(".")[2] for name in experts} == {"full": {"0", "1"}, "layers(last=1)": {"1"}}.get(line, set())
    assert moved


def test_a_checkpoint_holds_what_trains_alone() -> None:
    model = bert()
    parse_way("lora(rank=2)").prepare(model, stored(model))
    names = set(moving_tensors(model))
    assert {name for name in names if "lora" not in name} == {"classifier.weight", "classifier.bias"}
    assert all(".base_layer." not in name for name in names)


@pytest.mark.parametrize(
    ("build", "line", "words"),
    [
        (bert, "lora(rnak=4)", "no parameter 'rnak'; did you mean rank"),
        (bert, "lora(rank=0)", "PEFT .* cannot put it on BertForSequenceClassification"),
        (bert, "lora(rank=x)", "cannot put it on"),
        (bert, "lora(target_modules=nowhere)", "cannot put it on .*nowhere"),
        (bert, "lora(target_modules=classifier)", "classifier is not shared"),
        (bert, "lora(modules_to_save=classifier)", "modules_to_save cannot be set: heads train and stay here"),
        (bert, "lora(init_lora_weights=eva)", "needs a pass over data"),
        (bert, "lora(rank=2, r=4)", "one parameter is given by two names"),
        (bert, 'trainable-tokens(token_indices="999")', "cannot put it on"),
        (bert, "miss", "`r` .64. must be less than"),
        (llama, "beft", "LlamaForCausalLM has no layer that it changes by default"),
        (gpt2, "oft", "Conv1D"),
        (
            lambda: llama(tie_word_embeddings=True),
            "lora(target_modules=embed_tokens)",
            "embed_tokens is tied to another",
        ),
        (bert, "lora(target_modules=word_embeddings, freeze_embeddings=true)", "is an embedding"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(build: object, line: str, words: str) -> None:
    model = build()
    with pytest.raises(UserInputError, match=words) as caught:
        parse_way(line).prepare(model, stored(model))
    assert "\n" not in str(caught.value)


def test_ia3_needs_to_be_told_of_feed_forward_layers_that_peft_does_not_know() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    model = AlbertForSequenceClassification(AlbertConfig(**_SMALL, embedding_size=16))
    with pytest.raises(UserInputError, match=r"name them, such as ia3\(feedforward_modules"):
        parse_way("ia3").prepare(model, stored(model))
    made = parse_way("ia3(feedforward_modules=ffn_output)").prepare(model, stored(model))
    assert any("ia3_l" in name for name in moving_tensors(made))


def test_wise_ft_of_lora_is_a_part_of_its_change() -> None:
    whole, part = bert(), bert()
    base, found = base_of(whole), []
    for model in (whole, part):
        way = parse_way("lora(rank=2)")
        way.prepare(model, stored(model))
        terms = Terms(parse_objectives(["wise-ft"]), Beginning(model=model, shared={}))
        train(model)
        if model is part:
            scores = iter([0.1, 0.2, 0.2, 0.2, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3])  # of 1.0, 0.9, 0.8, 0.7, 0.6 and so on
            assert terms.finish(partial(next, scores), operator.gt) == 0.9
        changes = way.changes(model, base)
        found.append({name: changes[name].read(0, 1024) for name in changes})
    for name, delta in found[0].items():
        np.testing.assert_allclose(found[1][name], 0.6 * delta, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("line", ["vera(rank=8)", "lora(use_dora=true)", "lora(init_lora_weights=pissa)", "ia3"])
def test_wise_ft_refuses_adapters_of_which_half_is_not_half_the_change(line: str) -> None:
    model = bert()
    parse_way(line).prepare(model, stored(model))
    with pytest.raises(UserInputError, match="--objective wise-ft: half of such an adapter"):
        Terms(parse_objectives(["wise-ft"]), Beginning(model=model, shared={}))


@pytest.mark.parametrize("objective", ["fedprox", "l2-sp", "ewc"])
def test_what_holds_the_bases_own_weights_is_refused_beside_an_adapter(objective: str) -> None:
    model = bert()
    parse_way("lora(rank=2, bias=all)").prepare(model, stored(model))
    shared = {name: p for name, p in model.named_parameters() if p.requires_grad and "lora" not in name}
    with pytest.raises(UserInputError, match=f"--objective {objective}: it holds the base's own weights"):
        Terms(parse_objectives([objective]), Beginning(model=model, shared=shared))
