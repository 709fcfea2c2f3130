"""Every type of adapter that PEFT has: its change against PEFT's own merge, or a refusal that says why."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from coldfuse.adapters.adapter import open_adapter, read_stored
from coldfuse.adapters.expanding import expand
from coldfuse.adapters.types import EXPANDED, NATIVE, NO_WEIGHTS
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import ColdfuseError, UserInputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own, about settings that are tested here on purpose

State = Mapping[str, np.ndarray]


class Block(nn.Module):
    """The layers of one block; the first one by name is not the first one in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 32)
        self.q = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)


class Model(nn.Module):
    """Layers of each kind that adapters change."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(20, 16)
        self.layers = nn.ModuleList([Block() for _ in range(2)])
        self.conv = nn.Conv2d(4, 8, 3)
        self.line = nn.Conv1d(4, 8, 3)
        self.inner, self.square = Conv1D(12, 16), Conv1D(16, 16)
        self.attention = nn.MultiheadAttention(16, 2)


SETTINGS: dict[str, dict[str, object]] = {
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 2},
    "ADAMSS": {"r": 4, "num_subspaces": 2},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 4},
    "FOURIERFT": {"n_frequency": 10},
    "HRA": {"r": 2},
    "IA3": {"feedforward_modules": ["up"]},
    "LN_TUNING": {"target_modules": ["norm"]},
    "MISS": {"r": 4},
    "OFT": {"r": 0, "oft_block_size": 4},
    "OSF": {"effective_rank": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 1},
    "SUPERTUNING": {"sparsity": 0.5},
    "TRAINABLE_TOKENS": {"target_modules": ["emb"], "token_indices": [3, 1]},
    "UNILORA": {"theta_d_length": 32, "r": 2, "save_indices": True},
    "VBLORA": {"num_vectors": 16, "vector_length": 8, "r": 2},
    "WAVEFT": {"n_frequency": 10},
}
"""Settings that PEFT asks for, or that make the changes of small matrices."""


def config_of(peft_type: str, **settings: object) -> peft.PeftConfig:
    given = {"target_modules": ["q", "up"], **SETTINGS.get(peft_type, {}), **settings}
    return PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)](**given)


@dataclass(frozen=True)
class Trained:
    """A model before and after PEFT merged an adapter that was saved to a folder."""

    before: State
    after: State


class Headed(nn.Module):
    """A body under a name of its own, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"q": nn.Linear(16, 16), "k": nn.Linear(16, 16), "v": nn.Linear(16, 16)})
        self.head = nn.Linear(16, 8)


def train(config: peft.PeftConfig, folder: Path, kind: type[nn.Module] = Model) -> Trained:
    torch.manual_seed(0)
    model = kind()
    for value in model.parameters():
        value.data = 0.3 * torch.randn_like(value)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, config)
    for value in (value for value in wrapped.parameters() if value.requires_grad):
        value.data = value.data + 0.1 * torch.randn_like(value)
    wrapped.save_pretrained(folder)
    again = kind()
    again.load_state_dict(before)
    again = again if config.peft_type == "PSOFT" else again.double()  # which takes no doubles
    merged = peft.PeftModel.from_pretrained(again, folder).merge_and_unload()
    after = {name: value.double().numpy() for name, value in merged.state_dict().items()}
    return Trained({name: value.double().numpy() for name, value in before.items()}, after)


def require_same(folder: Path, trained: Trained, **base_config: object) -> None:
    schema = {name: TensorSpec(dtype="F32", shape=values.shape) for name, values in trained.before.items()}
    adapter = open_adapter(folder, schema, what="alice", base_config=base_config)
    if adapter.expansion is not None:
        expand(adapter.expansion, lambda name: trained.before[name].reshape(-1).copy(), folder / "deltas")
        adapter = adapter.placed(folder / "deltas")
    changed = {name for name, values in trained.before.items() if (trained.after[name] != values).any()}
    assert changed
    assert set(adapter.tensors) == changed
    for name, tensor in adapter.tensors.items():
        base = trained.before[name].reshape(tensor.rows_columns)
        delta = tensor.delta_rows(read_stored, base, 0, len(base)).reshape(tensor.shape)
        expected = trained.after[name] - trained.before[name]
        np.testing.assert_allclose(delta, expected, rtol=1e-6, atol=2e-7 * max(1.0, np.abs(expected).max()))


def refusal(folder: Path, trained: Trained) -> str | None:
    """Return what is said of an adapter that cannot be read; None: it is read, and is what PEFT made of it."""
    try:
        require_same(folder, trained)
    except ColdfuseError as error:
        return str(error)
    return None


def test_no_type_of_adapter_is_forgotten() -> None:
    assert {str(kind.value) for kind in peft.PeftType} == NATIVE | EXPANDED | NO_WEIGHTS.keys()
    assert not NATIVE & EXPANDED
    prefixes = {str(kind.value): prefix for kind, prefix in PEFT_TYPE_TO_PREFIX_MAPPING.items()}
    unlike = {kind for kind in EXPANDED if not prefixes[kind].startswith(kind.lower() + "_")}
    assert unlike == {"ADALORA"}  # which has LoRA's names


@pytest.mark.parametrize("peft_type", sorted(NATIVE | EXPANDED))
def test_a_type_is_what_peft_merges(peft_type: str, tmp_path: Path) -> None:
    require_same(tmp_path, train(config_of(peft_type), tmp_path))


@pytest.mark.parametrize("peft_type", sorted(NO_WEIGHTS))
def test_a_type_that_changes_no_weight_is_refused_with_the_reason(peft_type: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(f'{{"peft_type": "{peft_type}"}}')
    (tmp_path / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserInputError, match=f"type {peft_type} cannot be fused: .*; train one that changes weights"):
        open_adapter(tmp_path, {}, what="alice")


@pytest.mark.parametrize(
    ("peft_type", "settings"),
    [
        ("LORA", {"r": 2, "target_modules": ["emb", "q"], "use_dora": True}),
        ("LORA", {"r": 2, "target_modules": ["inner", "square"], "use_dora": True, "fan_in_fan_out": True}),
        ("LORA", {"r": 2, "target_modules": ["conv", "line"], "use_dora": True}),
        ("LORA", {"r": 2, "target_modules": ["attention"]}),
        ("LORA", {"r": 2, "target_modules": ["attention.out_proj"]}),
        ("LORA", {"r": 2, "target_modules": ["q"], "target_parameters": ["up.weight"]}),
        ("LORA", {"r": 2, "target_modules": ["q"], "trainable_token_indices": {"emb": [4, 0]}}),
        ("LORA", {"r": 2, "target_modules": ["q", "up"], "layers_to_transform": [1], "layers_pattern": "layers"}),
        ("LORA", {"r": 2, "target_modules": ["q", "up"], "exclude_modules": ["layers.1.up"]}),
        ("LOHA", {"r": 2, "target_modules": ["conv"], "use_effective_conv2d": True}),
        ("LOKR", {"r": 2, "target_modules": ["line", "conv"], "use_effective_conv2d": True}),
        ("HIRA", {"r": 2, "target_modules": ["emb", "conv"]}),
        ("TINYLORA", {"r": 2, "u": 3, "target_modules": ["emb", "q", "up"], "weight_tying": 0.5}),
        ("VBLORA", {"save_only_topk_weights": True}),
        ("VERA", {"r": 2, "target_modules": ["q", "up"], "save_projection": False}),
        ("RANDLORA", {"r": 2, "target_modules": ["q", "up"], "save_projection": False}),
        ("SUPERTUNING", {"sparsity": 0.5, "target_modules": ["q"], "save_precomputed_indices": False}),
        ("MISS", {"r": 4, "target_modules": ["q"], "init_weights": "bat"}),
    ],
)  # fmt: skip
def test_a_variant_is_what_peft_merges(peft_type: str, settings: dict[str, object], tmp_path: Path) -> None:
    require_same(tmp_path, train(config_of(peft_type, **settings), tmp_path))


@pytest.mark.parametrize("peft_type", ["ADALORA", "HIRA", "VERA", "WAVEFT"])
def test_layers_that_store_inputs_first_are_told_by_the_type_of_the_base(peft_type: str, tmp_path: Path) -> None:
    trained = train(config_of(peft_type, target_modules=["inner", "square"]), tmp_path)
    require_same(tmp_path, trained, model_type="gpt2")
    with pytest.raises(
        UserInputError, match=r"of module 'inner': (it says .*fan_in_fan_out|.*size mismatch).*merge it"
    ):
        require_same(tmp_path, trained, model_type="custom")


@pytest.mark.parametrize(
    ("peft_type", "settings", "message"),
    [
        ("UNILORA", {"save_indices": False}, "says of no module what becomes of it"),
        ("TINYLORA", {"save_projection": False}, "projections are not saved"),
    ],
    ids=["unilora", "tinylora"],
)
def test_what_a_file_does_not_say_is_refused(
    peft_type: str, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    trained = train(config_of(peft_type, **settings), tmp_path)
    with pytest.raises(UserInputError, match=f"alice: .*{message}.*merge_and_unload"):
        require_same(tmp_path, trained)


@pytest.mark.parametrize(
    ("peft_type", "settings", "is_refused"),
    [("HRA", {}, False), ("VBLORA", {}, False), ("TINYLORA", {}, True), ("VERA", {"save_projection": False}, True)],
)
def test_modules_that_the_base_lacks_count_where_something_is_shared(
    peft_type: str, settings: dict[str, object], is_refused: bool, tmp_path: Path
) -> None:
    train(config_of(peft_type, target_modules=["q", "k", "head"], **settings), tmp_path, Headed)
    schema = {f"{name}.weight": TensorSpec(dtype="F32", shape=(16, 16)) for name in ("q", "k", "v")}
    if is_refused:
        with pytest.raises(UserInputError, match="follows from all that were trained, and the base has no 'head'"):
            open_adapter(tmp_path, schema, what="alice")
    else:
        adapter = open_adapter(tmp_path, schema, what="alice")
        assert all(name.startswith("head.") for name in adapter.ignored)
        assert (set(adapter.tensors), len(adapter.ignored) > 0) == ({"q.weight", "k.weight"}, True)


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    trained = train(config_of("HIRA"), tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    del tensors["base_model.model.layers.1.q.hira_A"]
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserInputError, match=r"module 'layers.1.q': the file lacks .*layers\.1\.q\.hira_A; merge it"):
        require_same(tmp_path, trained)


@pytest.mark.parametrize(
    ("peft_type", "settings"),
    [
        ("HRA", {"r": 10**9}),
        ("HIRA", {"rank_pattern": {"q": 10**9}}),
        ("VERA", {"r": 2**62}),
        ("VBLORA", {"num_vectors": 10**8}),
        ("FOURIERFT", {"n_frequency_pattern": {"q": 10**10}}),
    ],
)
def test_a_size_that_nothing_has_is_refused_before_memory_is_taken(
    peft_type: str, settings: dict[str, object], tmp_path: Path
) -> None:
    trained = train(config_of(peft_type), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | settings))
    with pytest.raises(UserInputError, match=r"alice: .* is more than the adapter or the base has; merge it"):
        require_same(tmp_path, trained)


@pytest.mark.parametrize("peft_type", ["ADALORA", "HRA"])
@pytest.mark.parametrize("value", [-1, "x", [1], {"(": 1}, 1.5])
def test_settings_of_another_kind_are_one_clear_line(peft_type: str, value: object, tmp_path: Path) -> None:
    trained = train(config_of(peft_type), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for name in ("r", "rank_pattern", "modules_to_save", "init_weights"):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | {name: value}))
        said = refusal(tmp_path, trained)
        assert said is None or (said.startswith("alice: ") and "\n" not in said)


def test_nothing_that_a_configuration_names_is_imported_or_read(tmp_path: Path) -> None:
    trained = train(config_of("LORA", target_modules=["emb", "q"], use_dora=True), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    hostile = {"megatron_config": {"a": 1}, "megatron_core": "this", "corda_config": {"cache_file": "/nowhere"}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | hostile))
    require_same(tmp_path, trained)
    assert "this" not in sys.modules
