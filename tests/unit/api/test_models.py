"""Every form of a fine-tuned model gives the same delta: the tensors of the base, and nothing else."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_rounds import Model, floats, make_changes, make_model, write_file, write_model

from coldfuse.api.finetuned import FineTuned
from coldfuse.api.models import open_finetuned
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint

BASE = make_model()
CHANGES = make_changes(BASE, 1)
FINETUNED = BASE | {name: floats(BASE[name].floats + change) for name, change in CHANGES.items()}
EXACT = {name: FINETUNED[name].floats.astype(np.float64) - BASE[name].floats for name in CHANGES}
FUSED = {name for name, tensor in BASE.items() if tensor.spec.is_fused}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


def state(model: Model) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(tensor.data, np.int64).copy() if tensor.spec.dtype == "I64" else tensor.floats.copy()
        for name, tensor in model.items()
    }


def deltas(model: object, base: Path) -> tuple[FineTuned, dict[str, np.ndarray]]:
    opened = open_checkpoint(base)
    with ExitStack() as stack:
        found = open_finetuned(model, opened, base.parent / "scratch", stack)  # type: ignore[arg-type]
        return found, {
            name: found.read(name, 0, opened.schema[name].num_elements).reshape(opened.schema[name].shape)
            for name in found.names
        }


def assert_is_the_delta(model: object, base: Path, *, left_out: tuple[str, ...] = ()) -> None:
    found, read = deltas(model, base)
    assert (set(found.names), found.left_out, found.unchanged) == (FUSED, left_out, ())
    for name, values in read.items():
        np.testing.assert_array_equal(values, EXACT.get(name, np.zeros(BASE[name].spec.shape)))


@pytest.mark.parametrize("num_files", [1, 3])
def test_a_folder(base: Path, tmp_path: Path, num_files: int) -> None:
    folder = write_model(tmp_path / "model", FINETUNED, num_files=num_files)
    assert_is_the_delta(folder, base)
    assert_is_the_delta(str(folder), base)


def test_a_state_dict_of_numpy_and_of_torch(base: Path) -> None:
    arrays = state(FINETUNED)
    assert_is_the_delta(arrays | {"scale": arrays["scale"][()]}, base)
    assert_is_the_delta({name: torch.from_numpy(array) for name, array in arrays.items()}, base)


def test_a_module_with_a_head_behind_a_prefix(base: Path) -> None:
    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = torch.nn.Embedding(50, 8)
            self.layer = torch.nn.Linear(8, 8)
            self.scale = torch.nn.Parameter(torch.zeros(()))
            self.empty = torch.nn.Parameter(torch.zeros(0, 4))
            self.register_buffer("position_ids", torch.arange(10))

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body()
            self.classifier = torch.nn.Linear(8, 3)

    model = Classifier()
    model.body.load_state_dict({name: torch.from_numpy(array) for name, array in state(FINETUNED).items()})
    assert_is_the_delta(model, base, left_out=("classifier.bias", "classifier.weight"))


def test_a_base_whose_names_have_a_prefix(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {f"bert.{name}": tensor for name, tensor in BASE.items()})
    found, read = deltas(state(FINETUNED), base)
    assert set(found.names) == {f"bert.{name}" for name in FUSED}
    np.testing.assert_array_equal(read["bert.layer.weight"], EXACT["layer.weight"])


def test_what_the_model_lacks_counts_as_unchanged(base: Path) -> None:
    found, _ = deltas({name: array for name, array in state(FINETUNED).items() if name != "layer.bias"}, base)
    assert found.unchanged == ("layer.bias",)
    assert "layer.bias" not in found.names


def test_bfloat16_is_read_without_loss(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"w": floats([1, 2], "BF16")})
    _, read = deltas({"w": torch.tensor([1.5, 2.25], dtype=torch.bfloat16)}, base)
    assert read["w"].tolist() == [0.5, 0.25]


def write_lora(folder: Path, left: np.ndarray, right: np.ndarray, **whole: np.ndarray) -> Path:
    """Write a LoRA of `layer`, with a head that was trained whole."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["layer"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {"layer.lora_A.weight": floats(right), "layer.lora_B.weight": floats(left)}
    tensors |= {name: floats(values) for name, values in whole.items()}
    write_file(
        folder / "adapter_model.safetensors", {f"base_model.model.{name}": value for name, value in tensors.items()}
    )
    return folder


def test_an_adapter_is_expanded_tensor_by_tensor(base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(8, 2)).astype(np.float32), rng.normal(size=(2, 8)).astype(np.float32)
    folder = write_lora(tmp_path / "adapter", left, right, **{"classifier.weight": np.ones((3, 8))})
    found, read = deltas(folder, base)
    assert (found.names, found.left_out) == (("layer.weight",), ("classifier.weight",))
    np.testing.assert_allclose(read["layer.weight"], 2 * left.astype(np.float64) @ right, rtol=1e-12)
    assert set(found.unchanged) == FUSED - {"layer.weight"}


def test_any_elements_of_an_adapter_are_read(base: Path, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "adapter", np.ones((8, 2)), np.arange(16.0).reshape(2, 8))
    opened = open_checkpoint(base)
    with ExitStack() as stack:
        found = open_finetuned(folder, opened, tmp_path / "scratch", stack)
        whole = found.read("layer.weight", 0, 64)
        for first, count in ((0, 1), (3, 10), (8, 8), (15, 2), (60, 4)):
            np.testing.assert_array_equal(found.read("layer.weight", first, count), whole[first : first + count])


class Adapted:
    """What PEFT's models look like: their adapters are saved to a folder, or to one below it by their names."""

    def __init__(self, *names: str) -> None:
        self.peft_config = dict.fromkeys(names, object())
        self.active_adapters = list(names)

    def save_pretrained(self, save_directory: str, **options: object) -> None:
        assert options == {"safe_serialization": True}
        folder = Path(save_directory)
        if self.active_adapters != ["default"]:
            folder.mkdir()
            folder /= self.active_adapters[0]
        write_lora(folder, np.ones((8, 2)), np.ones((2, 8)))


@pytest.mark.parametrize("name", ["default", "reviews"])
def test_a_model_with_an_adapter(base: Path, name: str) -> None:
    found, read = deltas(Adapted(name), base)
    assert found.names == ("layer.weight",)
    np.testing.assert_array_equal(read["layer.weight"], np.full((8, 8), 4.0))


REFUSED = {
    "another model": ({"w": np.zeros(3)}, SchemaMismatchError, "the state dict: has 0 of the base's 6 tensors"),
    "half a model": (
        {"layer.weight": np.zeros((8, 8))}, SchemaMismatchError, "1 of the base's 6 tensors, such as embeddings.weight",
    ),
    "another shape": (
        state(FINETUNED) | {"embeddings.weight": np.zeros((51, 8))}, SchemaMismatchError,
        r"tensor embeddings\.weight: shape \[51, 8\], the base has \[50, 8\]",
    ),
    "no tensors": ({"layer.weight": [1.0]}, UserInputError, "layer.weight is a list, expected a tensor"),
    "nothing of a model": (3, UserInputError, "int: expected a model's or adapter's folder, a state dict, or a model"),
    "no folder": ("/nowhere/at/all", UserInputError, "there is no such folder"),
    "two adapters": (Adapted("one", "other"), UserInputError, "expected one active adapter, got one, other"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_copy_of_the_base_is_refused(base: Path, name: str) -> None:
    model, error, says = REFUSED[name]
    with pytest.raises(error, match=says):
        deltas(model, base)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(base: Path, value: float) -> None:
    arrays = state(FINETUNED)
    arrays["layer.bias"][3] = value
    with pytest.raises(UserInputError, match=r"tensor layer\.bias has values that are not finite"):
        deltas(arrays, base)


def test_an_adapter_without_weights_is_refused(base: Path, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "adapter", np.ones((8, 2)), np.ones((2, 8)))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(UserInputError, match=r"no adapter_model\.safetensors: it was not saved"):
        deltas(folder, base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_rounding_of_a_narrower_model_is_nothing_that_training_has_done(base: Path, dtype: torch.dtype) -> None:
    theta = {name: torch.tensor(values).to(dtype) for name, values in state(make_model()).items()}
    theta["layer.weight"][2] += 0.5
    held, found = deltas(theta, base)
    assert [name for name in held.names if found[name].any()] == ["layer.weight"]
    assert np.flatnonzero(found["layer.weight"].reshape(8, 8).any(axis=1)).tolist() == [2]
    assert np.allclose(found["layer.weight"].reshape(8, 8)[2], 0.5, atol=0.02)
