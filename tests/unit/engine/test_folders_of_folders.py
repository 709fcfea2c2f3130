"""Fusing models that are folders of folders, and checkpoints of one file; and saying what no result can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from model_folders import (
    DENSE,
    ENCODER,
    ROOT,
    ROUTED,
    UNET,
    listed,
    read_files,
    weights,
    write_files,
    write_modules,
    write_pipeline,
)
from tiny_rounds import Tensor, floats, integers, make_model, read_model, write_file, write_model

from coldfuse.core.left_out import LeftOut
from coldfuse.core.schema import TensorSpec, size_of
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, open_fusion
from coldfuse.engine.outputs import Output
from coldfuse.engine.preview import all_left_out, describe
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint

WEIGHT = "linear.weight"


def mean_of(*seeds: int) -> np.ndarray:
    return np.mean([weights(seed)[WEIGHT].floats.astype(np.float64) for seed in seeds], axis=0).astype(np.float32)


def values(folder: Path) -> dict[str, np.ndarray]:
    return {file: tensors[WEIGHT].floats for file, tensors in read_files(folder).items()}


def said(base: Path, model: Path, **more: object) -> tuple[LeftOut, ...]:
    request = FolderFusion(base=base, models=[model], out=base.parent / "x", recipe=read_recipe("mean"), **more)
    prepared = open_fusion(request)
    assert describe(prepared, ThreadExecutor(1)).left_out == all_left_out(prepared)
    return all_left_out(prepared)


def test_modules_are_fused_one_by_one(tmp_path: Path) -> None:
    folders = [write_modules(tmp_path / str(seed), seed) for seed in (0, 1, 2)]
    digest = fuse(folders[0], folders[1:], tmp_path / "out")
    assert listed(tmp_path / "out") == listed(folders[0])
    assert digest == open_checkpoint(tmp_path / "out").digest()
    expected = {ROOT: mean_of(1, 2), DENSE: mean_of(11, 12), ROUTED: mean_of(21, 22)}
    assert {file: value.tolist() for file, value in values(tmp_path / "out").items()} == {
        file: value.tolist() for file, value in expected.items()
    }


def test_components_are_fused_one_by_one(tmp_path: Path) -> None:
    folders = [write_pipeline(tmp_path / str(seed), seed) for seed in (0, 1, 2)]
    fuse(folders[0], folders[1:], tmp_path / "out")
    assert listed(tmp_path / "out") == listed(folders[0])
    made = values(tmp_path / "out")
    assert np.array_equal(made[UNET], mean_of(1, 2))
    assert np.array_equal(made[ENCODER], mean_of(11, 12))


@pytest.mark.parametrize("write", [write_modules, write_pipeline])
def test_a_delta_of_such_a_folder_counts_as_the_folder(tmp_path: Path, write) -> None:
    base, model = write(tmp_path / "base", 0), write(tmp_path / "model", 1)
    fuse(base, [model], tmp_path / "delta.safetensors", output=Output(kind="delta"))
    fuse(base, [tmp_path / "delta.safetensors"], tmp_path / "out")
    for file, value in values(model).items():
        np.testing.assert_allclose(values(tmp_path / "out")[file], value, atol=1e-6)


def test_files_of_a_size_are_cut_where_libraries_follow_an_index(tmp_path: Path) -> None:
    two = {f"layer.{n}.weight": floats([[float(n)]]) for n in range(3)}
    pipeline = write_pipeline(tmp_path / "p", **{UNET: two, ENCODER: two})
    fuse(pipeline, [pipeline], tmp_path / "out", output=Output(shard_bytes=4))
    made = open_checkpoint(tmp_path / "out")
    assert made.digest() == open_checkpoint(pipeline).digest()
    assert "unet/diffusion_pytorch_model-00002-of-00003.safetensors" in made.files
    assert "text_encoder/model-00002-of-00003.safetensors" in made.files
    assert not {UNET, ENCODER} & set(listed(tmp_path / "out"))
    fuse(tmp_path / "out", [pipeline], tmp_path / "whole", output=Output(shard_bytes=1 << 20))
    assert listed(tmp_path / "whole") == listed(pipeline)
    modules = write_modules(tmp_path / "m", **{ROOT: two, DENSE: two})
    fuse(modules, [modules], tmp_path / "cut", output=Output(shard_bytes=4))
    assert "model-00003-of-00003.safetensors" in listed(tmp_path / "cut")
    assert DENSE in listed(tmp_path / "cut")


def test_what_is_kept_between_fusions_lies_in_folders_too(tmp_path: Path) -> None:
    base, model = write_modules(tmp_path / "base", 0), write_modules(tmp_path / "model", 1)
    fuse(base, [model], tmp_path / "one", "mean then nesterov")
    assert f"outer/momentum/{DENSE}" in listed(tmp_path / "one")
    fuse(tmp_path / "one", [model], tmp_path / "two", "mean then nesterov")


def test_a_model_without_a_module_leaves_it_as_it_is_and_says_so(tmp_path: Path) -> None:
    base = write_modules(tmp_path / "base", 0)
    bare = write_files(tmp_path / "bare", {"config.json": {}, ROOT: weights(1)})
    fuse(base, [bare], tmp_path / "out")
    assert np.array_equal(values(tmp_path / "out")[ROOT], mean_of(1))
    assert np.array_equal(values(tmp_path / "out")[DENSE], mean_of(10))
    why = "it has no such folder: these stay as the base has them"
    assert said(base, bare) == (LeftOut(str(bare), ("2_Dense/", "3_Router/query_0_Dense/"), why),)


def test_a_module_that_the_base_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    base = write_files(tmp_path / "base", {"config.json": {}, ROOT: weights(0)})
    model = write_modules(tmp_path / "model", 1)
    assert fuse(base, [model], tmp_path / "out") == open_checkpoint(model).only([""]).digest()
    why = "folders with tensors that the base does not have"
    assert said(base, model) == (LeftOut(str(model), ("2_Dense/", "3_Router/query_0_Dense/"), why),)


def test_a_tensor_that_a_module_lacks_is_missed_all_the_same(tmp_path: Path) -> None:
    base = write_modules(tmp_path / "base", **{DENSE: weights(0) | {"linear.bias": floats([1.0])}})
    with pytest.raises(SchemaMismatchError, match=r"model/2_Dense: tensor linear\.bias of the base is missing"):
        fuse(base, [write_modules(tmp_path / "model")], tmp_path / "out")


def test_a_component_alone_counts_for_the_pipelines(tmp_path: Path) -> None:
    base, model = write_pipeline(tmp_path / "base", 0), write_pipeline(tmp_path / "model", 1)
    write_file(base / ENCODER, {"other.weight": floats([1.0])})
    fuse(base, [model / "unet"], tmp_path / "out")
    assert read_files(tmp_path / "out") == read_files(base) | {UNET: weights(1)}


def test_a_component_that_may_be_two_is_refused(tmp_path: Path) -> None:
    base, model = write_pipeline(tmp_path / "base", 0), write_pipeline(tmp_path / "model", 1)
    with pytest.raises(SchemaMismatchError, match=r"the base has its tensors in text_encoder/, unet/, and this one in"):
        fuse(base, [model / "unet"], tmp_path / "out")


def test_an_adapter_is_of_one_model(tmp_path: Path) -> None:
    base, adapter = write_pipeline(tmp_path / "base"), Output(kind="adapter", rank=1)
    with pytest.raises(
        UserInputError, match=r"an adapter is of one model, and here are several \(text_encoder/, unet/"
    ):
        fuse(base, [base], tmp_path / "out", output=adapter)


def test_one_file_is_fused_to_one_file_or_into_a_folder(tmp_path: Path) -> None:
    base, model = tmp_path / "sd.safetensors", tmp_path / "a.safetensors"
    write_file(base, weights(0))
    write_file(model, weights(1))
    folder = write_files(tmp_path / "folder", {"config.json": {}, ROOT: weights(3)})
    digest = fuse(base, [model, folder], tmp_path / "out.safetensors")
    assert fuse(base, [model, folder], tmp_path / "out") == digest
    assert listed(tmp_path / "out") == ["sd.safetensors"]
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "out/sd.safetensors").read_bytes()
    assert np.array_equal(values(tmp_path / "out")["sd.safetensors"], mean_of(1, 3))
    assert fuse(folder, [base, model], tmp_path / "other") != digest


def test_one_file_has_no_place_for_more(tmp_path: Path) -> None:
    base, out = tmp_path / "sd.safetensors", tmp_path / "out.safetensors"
    write_file(base, weights(0))
    with pytest.raises(UserInputError, match=r"no place for what is kept between fusions \(momentum\)"):
        fuse(base, [base], out, "mean then nesterov")
    with pytest.raises(UserInputError, match="--shard-size cuts a model into several files; give a folder instead of"):
        fuse(base, [base], out, output=Output(shard_bytes=4))
    fuse(base, [base], tmp_path / "out", output=Output(shard_bytes=1 << 20))
    assert listed(tmp_path / "out") == [ROOT]


def test_code_is_copied_on_request_alone(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoModel": "modeling_x.Model"}}
    files = {"config.json": config, "modeling_x.py": "raise SystemExit", "other.py": ""}
    base = write_files(write_model(tmp_path / "base", make_model()), files)
    fuse(base, [base], tmp_path / "bare")
    fuse(base, [base], tmp_path / "whole", with_code=True)
    assert listed(tmp_path / "bare") == ["config.json", ROOT]
    assert listed(tmp_path / "whole") == ["config.json", ROOT, "modeling_x.py"]
    assert [item.names for item in said(base, base)] == [("other.py",), ("modeling_x.py",)]
    assert [item.names for item in said(base, base, with_code=True)] == [("other.py",)]
    assert said(base, base, output=Output(kind="delta")) == ()


def test_tensors_of_an_input_that_no_result_can_have_are_named(tmp_path: Path) -> None:
    tokens = floats(np.arange(6.0).reshape(3, 2))
    base = write_model(tmp_path / "base", {"embed_tokens.weight": tokens})
    own = {"embed_tokens.weight": tokens, "lm_head.weight": tokens, "position_ids": integers([1])}
    model = write_files(
        write_model(tmp_path / "model", own), {"pytorch_model.bin": "x", "README.md": "x", "onnx/a": "x"}
    )
    assert {item.names: item.why for item in said(base, model)} == {
        ("lm_head.weight",): "another task's head, copies of what is tied, or what transformers does not load",
        ("position_ids",): "integers that the base does not have",
        ("pytorch_model.bin",): "weights in another form",
    }


@pytest.mark.parametrize("dtype", ["C64", "F8_E8M0", "F8_E5M2FNUZ", "F4", "F6_E2M3", "U16", "U64"])
@pytest.mark.parametrize("kind", ["model", "delta"])
def test_tensors_of_every_other_dtype_are_copied(tmp_path: Path, dtype: str, kind: str, small_parts: int) -> None:
    shape = (9, 64)
    table = Tensor(TensorSpec(dtype=dtype, shape=shape), np.random.default_rng(0).bytes(size_of(dtype, 9 * 64)))
    base = write_model(tmp_path / "base", {"table": table, **weights(0)})
    model = write_model(tmp_path / "model", {"table": table, **weights(1)})
    digest = fuse(base, [model], tmp_path / "out", output=Output(kind=kind))
    if kind == "model":
        assert read_model(tmp_path / "out") == read_model(model)
        assert digest == open_checkpoint(model).digest() == open_checkpoint(tmp_path / "out").digest()
    changed = Tensor(table.spec, table.data[:-1] + bytes([table.data[-1] ^ 1]))
    other = write_model(tmp_path / "other", {"table": changed, **weights(1)})
    with pytest.raises(SchemaMismatchError, match=rf"tensor table \({dtype}\) differs from the base's"):
        fuse(base, [other], tmp_path / "refused", output=Output(kind=kind))


def test_tied_weights_and_prefixes_are_matched_within_each_folder(tmp_path: Path) -> None:
    def write(name: str, seed: int, names: tuple[str, ...]) -> Path:
        table = weights(seed)[WEIGHT]
        return write_pipeline(tmp_path / name, seed, **{ENCODER: dict.fromkeys(names, table)})

    base = write("base", 0, ("shared.weight", "encoder.embed_tokens.weight"))
    model = write("model", 1, ("shared.weight",))
    fuse(base, [model], tmp_path / "out")
    made = read_files(tmp_path / "out")[ENCODER]
    assert made["shared.weight"] == made["encoder.embed_tokens.weight"] == weights(1)[WEIGHT]
