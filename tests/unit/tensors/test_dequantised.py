from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from float8_models import BLOCKS, quantise, write
from safetensors.torch import load
from torch import Tensor

from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.registry.creation import create_federation
from coldfuse.storage.memory import MemoryStore
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint, open_model
from coldfuse.tensors.composed import ComposedFile
from coldfuse.tensors.contents import sample_digest
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.files import opened, read_bytes

MODEL = "model.safetensors"


def opened_of(folder: Path, tensors: dict[str, Tensor], settings: object) -> Checkpoint:
    return open_as_floats(open_checkpoint(write(folder, {MODEL: tensors}, {"quantization_config": settings})))


def tensors_of(model: Checkpoint) -> dict[str, Tensor]:
    """Read everything, with the library."""
    return {name: tensor for file in model.files.values() for name, tensor in load(read_bytes(file.file)).items()}


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_every_number_of_fp8_is_pytorchs(tmp_path: Path, dtype: str) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype)).reshape(16, 16)
    scale = torch.tensor(0.3)
    model = opened_of(tmp_path / "m", {"a.weight": every, "a.weight_scale": scale}, {"quant_method": "fbgemm_fp8"})
    wanted = (every.float() * scale).bfloat16()
    assert torch.equal(tensors_of(model)["a.weight"].nan_to_num(7), wanted.nan_to_num(7))


@pytest.mark.parametrize(
    ("shape", "scales", "block"),
    [
        ((8, 16), (2, 2), (4, 8)),
        ((7, 13), (2, 2), (4, 8)),  # the last blocks are smaller
        ((3, 5), (1, 1), (3, 5)),
        ((7, 13), (7, 1), (1, 13)),
        ((7, 13), (7, 3), (1, 6)),  # as another group's settings say
        ((3, 7, 13), (3, 2, 2), (4, 8)),  # experts in one tensor
        ((3, 7, 13), (3, 1, 1), (7, 13)),
        ((7, 13), (1,), (1, 1)),
        ((7, 13), (), (1, 1)),
    ],
)
def test_scales_of_all_shapes_are_heeded(
    tmp_path: Path, shape: tuple[int, ...], scales: tuple[int, ...], block: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    weight, scale, wanted = quantise(torch.randn(shape), *scales, block=block)
    settings = BLOCKS | {"config_groups": {"a": {"weights": {"group_size": 6}}, "b": {"weights": None}, "c": None}}
    model = opened_of(tmp_path / "m", {"a.weight": weight, "a.weight_scale_inv": scale}, settings)
    assert model.schema["a.weight"].dtype == "BF16"
    assert torch.equal(tensors_of(model)["a.weight"], wanted)


@pytest.mark.parametrize("dims", [1, 2])
def test_scales_of_rows_and_of_experts_may_lack_dimensions(tmp_path: Path, dims: int) -> None:
    shape, block = ((3, 5, 1), (1, 6)) if dims == 2 else ((3, 1, 1), (5, 6))
    weight, scale, wanted = quantise(torch.randn(3, 5, 6), *shape, block=block)
    tensors = {"experts.up": weight, "experts.up_scale_inv": scale.reshape(scale.shape[:dims])}
    assert torch.equal(tensors_of(opened_of(tmp_path / "m", tensors, BLOCKS))["experts.up"], wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e8m0fnu])
def test_scales_may_have_other_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    weight, scale, _ = quantise(torch.randn(8, 16), 2, 2, block=(4, 8))
    tensors = {"a.weight": weight, "a.weight_scale_inv": scale.to(dtype)}
    wide = scale.to(dtype).float().repeat_interleave(4, 0).repeat_interleave(8, 1)
    made = tensors_of(opened_of(tmp_path / "m", tensors, BLOCKS))["a.weight"]
    assert torch.equal(made, (weight.float() * wide).bfloat16())


def test_any_range_is_read_alike_from_any_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfuse.tensors.float8._STEP_ELEMENTS", 7)
    monkeypatch.setattr("coldfuse.tensors.float8._READ_ELEMENTS", 17)
    weight, scale, _ = quantise(torch.randn(3, 7, 13), 3, 2, 2, block=(4, 8))
    tensors = {"a.weight": weight, "a.weight_scale_inv": scale, "b": torch.randn(3)}
    model = opened_of(tmp_path / "m", tensors, BLOCKS)
    whole = read_bytes(model.files[MODEL].file)
    file = pickle.loads(pickle.dumps(model.files[MODEL].file))
    for start in range(0, len(whole) - 1, 3):
        for length in (1, 2, 5, 64, 1000):
            where = file.range(start, min(length, len(whole) - start))
            buffer = bytearray(where.length)
            with opened(where.file) as reader:
                reader.read_into(memoryview(buffer), where.start)
            assert buffer == whole[start : start + length], (start, length)
    assert sample_digest(list(model.files.values()))  # whose samples begin anywhere


def test_scales_may_lie_in_another_file_and_the_index_names_what_is_left(tmp_path: Path) -> None:
    weight, scale, wanted = quantise(torch.randn(8, 16), 2, 2, block=(4, 8))
    first, second, third = (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
    files = {
        first: {"a.weight": weight},
        second: {"norm": torch.ones(3)},
        third: {"a.weight_scale_inv": scale},
    }
    model = open_as_floats(open_checkpoint(write(tmp_path / "m", files, {"quantization_config": BLOCKS})))
    assert list(model.files) == [first, second]  # no file without a tensor
    assert torch.equal(tensors_of(model)["a.weight"], wanted)
    assert json.loads(model.read("model.safetensors.index.json") or b"") == {
        "metadata": {"total_size": 8 * 16 * 2 + 3 * 4},
        "weight_map": {"a.weight": first, "norm": second},
    }


def test_configuration_and_activations_scales_are_left_out_and_named(tmp_path: Path) -> None:
    weight, scale, _ = quantise(torch.randn(8, 16), 8, 1, block=(1, 16))
    tensors = {"a.weight": weight, "a.weight_scale": scale, "a.input_scale": torch.ones(1), "k_scale": torch.ones(1)}
    tensors["learned.q_scale"] = torch.ones(3)
    settings = {"quant_method": "compressed-tensors", "format": "float-quantized"}
    config = {"torch_dtype": "float8_e4m3fn", "text_config": {"hidden": 1, "quantization_config": settings}, "a": [1]}
    model = open_as_floats(open_checkpoint(write(tmp_path / "m", {MODEL: tensors}, config)), is_written=True)
    assert model.schema.keys() == {"a.weight", "learned.q_scale"}
    assert json.loads(model.read("config.json") or b"") == {
        "torch_dtype": "bfloat16", "text_config": {"hidden": 1}, "a": [1],
    }  # fmt: skip
    told, scales = model.left_out("base", how="")
    assert (told.what, told.names) == ("base", ("quantization_config",))
    assert told.why == "the weights are in FP8 (F8_E4M3, a scale for each row): read with their scales, written in BF16"
    assert scales.names == ("a.input_scale", "a.weight_scale", "k_scale")


def test_a_file_of_its_own_is_read_too(tmp_path: Path) -> None:
    weight, scale, wanted = quantise(torch.randn(8, 16), 1, 1, block=(8, 16))
    file = write(tmp_path / "m", {"x.safetensors": {"a.weight": weight, "a.weight_scale": scale}}, {})
    model = open_as_floats(open_model(file / "x.safetensors"))
    assert torch.equal(tensors_of(model)["a.weight"], wanted)


@pytest.mark.parametrize(
    "settings",
    [{"quant_method": "gptq"}, {"quant_method": "torchao"}, {"quant_method": "mxfp4"}],
)
def test_other_methods_weights_stay_as_they_are(tmp_path: Path, settings: object) -> None:
    weight, scale, _ = quantise(torch.randn(8, 16), 8, 1, block=(1, 16))
    model = opened_of(tmp_path / "m", {"a.weight": weight, "a.weight_scale": scale}, settings)
    assert model.schema["a.weight"].dtype == "F8_E4M3"
    assert not model.converted


def test_fp8_without_any_scale_stays_as_it_is(tmp_path: Path) -> None:
    model = opened_of(tmp_path / "m", {"a.weight": torch.ones(4).to(torch.float8_e4m3fn)}, {})
    assert not isinstance(model.files[MODEL].file, ComposedFile)


@pytest.mark.parametrize(
    ("more", "settings", "says"),
    [
        ({"b.weight_packed": torch.ones(2)}, BLOCKS, r"b\.weight_packed, which is another quantisation's"),
        ({"a.weight_scale": torch.ones(1)}, BLOCKS, r"a\.weight has two scales"),
        ({"b.weight": torch.ones(4).to(torch.float8_e4m3fn)}, BLOCKS, r"b\.weight is in FP8 and has no scale"),
        ({"a.weight_scale_inv": torch.ones(3, 2)}, BLOCKS, r"\[8, 16\] has scales of shape \[3, 2\].*4 x 8"),
        ({"a.weight_scale_inv": torch.ones(1, 2)}, BLOCKS, r"\[8, 16\] has scales of shape \[1, 2\]"),
        ({"a.weight_scale_inv": torch.ones(8, 2)}, BLOCKS, r"\[8, 16\] has scales of shape \[8, 2\]"),
        ({"a.weight_scale_inv": torch.ones(2, 2).int()}, BLOCKS, r"shape \[2, 2\] \(I32\)"),
        ({"a.weight_scale_inv": torch.ones(1, 2, 2)}, BLOCKS, r"shape \[1, 2, 2\]"),
        ({}, BLOCKS | {"weight_block_size": [128, 128]}, r"blocks of 128 x 128"),
        ({}, BLOCKS | {"weight_block_size": [0, "8"]}, r"blocks of 128 x 128"),
        ({}, BLOCKS | {"transform_config": {"config_groups": {"u": {}}}}, "transform_config, which coldfuse"),
        ({}, BLOCKS | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config, which coldfuse"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, more: dict[str, Tensor], settings: dict[str, object], says: str
) -> None:
    weight, scale, _ = quantise(torch.randn(8, 16), 2, 2, block=(4, 8))
    with pytest.raises(SchemaMismatchError, match=says):
        opened_of(tmp_path / "m", {"a.weight": weight, "a.weight_scale_inv": scale, **more}, settings)


def test_a_federation_on_an_fp8_base_is_refused(tmp_path: Path) -> None:
    weight, scale, _ = quantise(torch.randn(8, 16), 2, 2, block=(4, 8))
    tensors = {"a.weight": weight, "a.weight_scale_inv": scale}
    base = write(tmp_path / "base", {MODEL: tensors}, {"quantization_config": BLOCKS})
    rules = {"quorum": 1, "deadline_s": 60.0}
    with pytest.raises(UserInputError, match=r"in FP8, and a federation's base is of floats.*coldfuse fuse .* --out"):
        create_federation(MemoryStore(), name="f", base=base, origin="base", method="mean", rules=rules)
