from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from safetensors.numpy import load_file
from tiny_rounds import Model, finetune, floats, integers, make_model, read_model, write_model

from coldfuse.core.model_files import INDEX
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFused, FolderFusion, fuse_prepared, prepare
from coldfuse.engine.outputs import Output
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import FusionError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header

DELTA = Output(kind="delta")
SPACING = {"F32": 2.0**-23, "BF16": 2.0**-7, "F16": 2.0**-10}


def write_models(tmp_path: Path, *, dtype: str = "F32", num_files: int = 1) -> tuple[Path, list[Path]]:
    base = make_model(dtype=dtype)
    folders = [write_model(tmp_path / f"m{seed}", finetune(base, seed)) for seed in range(3)]
    return write_model(tmp_path / "base", base, num_files=num_files), folders


def run(base: Path, models: list[Path], out: Path, output: Output, method: str = "mean") -> FolderFused:
    request = FolderFusion(base=base, models=models, out=out, recipe=read_recipe(method), output=output)
    return fuse_prepared(prepare(request, ThreadExecutor(2)), out, ThreadExecutor(2))


@pytest.mark.parametrize("method", ["clip then ties", "karcher then nesterov"])
def test_files_of_another_size_hold_the_same_model(tmp_path: Path, small_parts: int, method: str) -> None:
    base, models = write_models(tmp_path, num_files=2)
    expected = fuse(base, models, tmp_path / "as-base", method)
    for shard_bytes in (1, 300, 10**9):
        out = tmp_path / str(shard_bytes)
        assert fuse(base, models, out, method, output=Output(shard_bytes=shard_bytes)) == expected
        assert open_checkpoint(out).digest() == expected


def test_files_keep_to_their_size_and_an_index_names_them(tmp_path: Path) -> None:
    base, models = write_models(tmp_path)
    fuse(base, models, tmp_path / "out", output=Output(shard_bytes=300))
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    held = [load_file(tmp_path / "out" / file) for file in files]
    for file, tensors in zip(files, held, strict=True):
        assert [name for name, owner in index["weight_map"].items() if owner == file] == sorted(tensors)
    sizes = [sum(array.nbytes for array in tensors.values()) for tensors in held]
    assert all(size <= 300 or len(tensors) == 1 for size, tensors in zip(sizes, held, strict=True))
    assert index["metadata"]["total_size"] == sum(sizes)


def test_one_file_needs_no_index(tmp_path: Path) -> None:
    base, models = write_models(tmp_path, num_files=3)
    fuse(base, models, tmp_path / "out", output=Output(shard_bytes=10**9))
    assert sorted(os.listdir(tmp_path / "out")) == ["config.json", "model.safetensors"]


def test_a_state_goes_on_in_files_of_another_size(tmp_path: Path) -> None:
    base, models = write_models(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    fuse(base, models, first, "mean then nesterov", output=Output(shard_bytes=300))
    fuse(base, models, tmp_path / "as-base", "mean then nesterov")
    expected = fuse(tmp_path / "as-base", models, tmp_path / "expected", "mean then nesterov")
    assert fuse(first, models, second, "mean then nesterov") == expected


@pytest.mark.parametrize(("dtype", "encoding"), [("F32", "BF16"), ("BF16", "F32"), ("F16", "F16")])
def test_a_delta_applied_is_the_fused_model(tmp_path: Path, small_parts: int, dtype: str, encoding: str) -> None:
    base, models = write_models(tmp_path, dtype=dtype)
    delta, applied = tmp_path / "delta.safetensors", tmp_path / "applied"
    fuse(base, models, tmp_path / "model", "ties")
    fuse(base, models, delta, "ties", output=Output(kind="delta", dtype=encoding))
    fuse(base, [delta], applied)
    assert_as_close_as_it_can_be(read_model(base), read_model(applied), read_model(tmp_path / "model"), encoding)


def assert_as_close_as_it_can_be(base: Model, applied: Model, expected: Model, encoding: str) -> None:
    for name, tensor in base.items():
        if not tensor.spec.is_fused:
            assert applied[name] == tensor
            continue
        delta = np.abs(expected[name].floats.astype(np.float64) - tensor.floats)
        spare = SPACING[encoding] * delta + SPACING[tensor.spec.dtype] * np.abs(expected[name].floats) + 2.0**-24
        assert (np.abs(applied[name].floats.astype(np.float64) - expected[name].floats) <= spare).all()


def test_a_delta_holds_what_the_models_dtype_would_round_away(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a": floats([256.0, -256.0], "BF16")})
    model = write_model(tmp_path / "m", {"a": floats([256.0 + 2.0**-12, -256.0], "F32")})
    fuse(base, [model], tmp_path / "d.safetensors", output=DELTA)
    assert load_file(tmp_path / "d.safetensors")["a"].tolist() == [2.0**-12, 0.0]


def test_a_delta_is_the_same_in_any_order(tmp_path: Path) -> None:
    base, models = write_models(tmp_path)
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    assert fuse(base, models, first, output=DELTA) == fuse(base, models[::-1], second, output=DELTA)
    assert first.read_bytes() == second.read_bytes()


def test_a_delta_leaves_out_what_nobody_names(tmp_path: Path) -> None:
    base, _ = write_models(tmp_path)
    opened = open_checkpoint(base)
    head = delta_header(opened.schema, ["layer.bias"], encoding="F32", base_digest=opened.digest())
    (tmp_path / "1.safetensors").write_bytes(head + np.ones(8, np.float32).tobytes())
    fuse(base, [tmp_path / "1.safetensors"], tmp_path / "2.safetensors", output=DELTA)
    assert (tmp_path / "2.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


def test_a_delta_that_does_not_fit_its_dtype_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a": floats([0.0])})
    model = write_model(tmp_path / "m", {"a": floats([1e6])})
    with pytest.raises(FusionError, match=r"tensor a: the fused delta .* F16; take a wider"):
        fuse(base, [model], tmp_path / "d.safetensors", output=Output(kind="delta", dtype="F16"))
    assert sorted(os.listdir(tmp_path)) == ["base", "m"]


def low_rank_models(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(8, 6)), rng.normal(size=8)
    base: Model = {"layer.weight": floats(weight), "layer.bias": floats(bias), "position_ids": integers([1])}
    step = np.outer(rng.normal(size=8), rng.normal(size=6)) + np.outer(rng.normal(size=8), rng.normal(size=6))
    moved = base | {"layer.weight": floats(weight + step), "layer.bias": floats(bias + 0.5)}
    return write_model(tmp_path / "base", base), write_model(tmp_path / "m", moved)


def test_an_adapter_of_the_deltas_own_rank_is_the_fused_matrix(tmp_path: Path) -> None:
    base, model = low_rank_models(tmp_path)
    fused = run(base, [model], tmp_path / "adapter", Output(kind="adapter", rank=2))
    fuse(base, [tmp_path / "adapter"], tmp_path / "applied")
    applied = read_model(tmp_path / "applied")
    assert np.allclose(applied["layer.weight"].floats, read_model(model)["layer.weight"].floats, atol=1e-5)
    assert applied["layer.bias"] == read_model(base)["layer.bias"]
    assert fused.adapter is not None
    assert fused.adapter.dropped == {"layer.bias": pytest.approx(0.5 * 8**0.5)}
    assert fused.adapter.errors["layer.weight"] < 1e-6
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (2, str(base))


def test_an_adapter_becomes_a_delta_of_what_it_changes(tmp_path: Path) -> None:
    base, model = low_rank_models(tmp_path)
    run(base, [model], tmp_path / "adapter", Output(kind="adapter", rank=2))
    fuse(base, [tmp_path / "adapter"], tmp_path / "d.safetensors", output=DELTA)
    assert list(load_file(tmp_path / "d.safetensors")) == ["layer.weight"]


def test_a_smaller_rank_says_how_much_is_lost(tmp_path: Path) -> None:
    base, model = low_rank_models(tmp_path)
    fused = run(base, [model], tmp_path / "adapter", Output(kind="adapter", rank=1))
    delta = read_model(model)["layer.weight"].floats.astype(np.float64) - read_model(base)["layer.weight"].floats
    sigma = np.linalg.svd(delta, compute_uv=False)
    assert fused.adapter is not None
    error = fused.adapter.errors["layer.weight"]
    assert error == pytest.approx(sigma[1] / np.hypot(*sigma[:2]), rel=1e-5)


@pytest.mark.parametrize("kind", ["delta", "adapter"])
def test_what_cannot_hold_a_state_is_refused_for_methods_that_keep_one(tmp_path: Path, kind: str) -> None:
    base, models = write_models(tmp_path)
    output = Output(kind=kind, rank=2 if kind == "adapter" else None)
    with pytest.raises(UserInputError, match=f"which {kind}s cannot hold"):
        fuse(base, models, tmp_path / "out", "mean then nesterov", output=output)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "delta", "shard_bytes": 10}, "--shard-size is for models"),
        ({"kind": "model", "dtype": "BF16"}, "--dtype is for deltas"),
        ({"kind": "adapter"}, "--rank: an adapter needs one"),
        ({"kind": "delta", "rank": 4}, "--rank: only adapters have one"),
    ],
)
def test_options_of_another_kind_of_output_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UserInputError, match=says):
        Output(**options)


def test_a_delta_is_not_written_over_what_is_there(tmp_path: Path) -> None:
    base, models = write_models(tmp_path)
    with pytest.raises(UserInputError, match=r"model\.safetensors: exists already"):
        fuse(base, models, base / "model.safetensors", output=DELTA)
