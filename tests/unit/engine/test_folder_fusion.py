from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse as fuse_folders
from tiny_rounds import finetune, floats, integers, make_model, read_model, write_file, write_model

from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import FusionError, SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import format_header

MODEL = make_model()


def fuse(base: Path, models: list[Path], out: Path, *, weights: list[float] | None = None, threads: int = 1) -> str:
    given = [1.0] * len(models) if weights is None else weights
    return fuse_folders(base, models, out, "weighted-mean", weights=given, executor=ThreadExecutor(threads))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", MODEL)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_models_are_fused_by_the_mean_of_what_changed(tmp_path: Path, dtype: str) -> None:
    model = make_model(dtype=dtype)
    others = [finetune(model, seed) for seed in range(3)]
    base = write_model(tmp_path / "base", model)
    folders = [write_model(tmp_path / str(seed), other) for seed, other in enumerate(others)]
    digest = fuse(base, folders, tmp_path / "out")
    for name, tensor in model.items():
        if tensor.spec.is_fused:
            theta = tensor.floats.astype(np.float64)
            delta = sum(other[name].floats.astype(np.float64) - theta for other in others) / 3
            agreed = read_model(tmp_path / "out")[name].floats
            assert np.allclose(agreed, floats(theta + delta, dtype).floats, rtol=2.0**-23, atol=0)
        else:
            assert read_model(tmp_path / "out")[name] == tensor
    assert digest == open_checkpoint(tmp_path / "out").digest()
    assert (tmp_path / "out" / "config.json").read_text() == (base / "config.json").read_text()


def test_a_models_difference_is_not_rounded_before_it_is_fused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a": floats([1.0])})
    tiny = write_model(tmp_path / "tiny", {"a": floats([2.0**-30])})  # float32 takes the difference for -1
    fuse(base, [tiny], tmp_path / "out")
    assert read_model(tmp_path / "out")["a"] == floats([2.0**-30])


def test_not_even_a_sum_that_depends_on_its_order_depends_on_the_order_of_models(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a": floats([0.0, 0.0], "F64")})
    values = ([1.0, 1.0], [2.0**-53, 1.0], [2.0**-53, 2.0])
    models = [write_model(tmp_path / f"m{n}", {"a": floats(value, "F64")}) for n, value in enumerate(values)]
    orders = enumerate(permutations(models))
    assert len({fuse(base, list(order), tmp_path / f"o{n}") for n, order in orders}) == 1


def test_order_threads_and_names_do_not_change_a_bit(tmp_path: Path, small_parts: int) -> None:
    base = write_model(tmp_path / "base", MODEL, num_files=3)
    named = [(write_model(tmp_path / f"m{seed}", finetune(MODEL, seed), num_files=2), 1.0 + seed) for seed in range(3)]
    digests = {
        fuse(base, [m for m, _ in order], tmp_path / f"o{n}", weights=[w for _, w in order], threads=1 + n % 3)
        for n, order in enumerate(permutations(named))
    }
    assert len(digests) == 1
    assert digests == {open_checkpoint(tmp_path / "o0").digest()}


def test_the_same_model_twice_weighs_the_same_in_any_order(tmp_path: Path, base: Path) -> None:
    twins = [write_model(tmp_path / name, finetune(MODEL, 1)) for name in "ab"]
    other = write_model(tmp_path / "c", finetune(MODEL, 2))
    digests = {
        fuse(base, [*pair, other], tmp_path / f"o{n}", weights=[*weights, 5.0])
        for n, (pair, weights) in enumerate([(twins, [0.1, 0.7]), (twins[::-1], [0.1, 0.7]), (twins, [0.7, 0.1])])
    }
    assert len(digests) == 1


def test_a_delta_file_counts_like_the_model_it_was_made_from(tmp_path: Path, base: Path) -> None:
    steps = {"layer.bias": np.float32(0.5) + MODEL["layer.bias"].floats * 0}
    exact = MODEL | {"layer.bias": floats(np.arange(8) / 4)}
    base2 = write_model(tmp_path / "base2", exact)
    digest = open_checkpoint(base2).digest()
    schema = {name: tensor.spec for name, tensor in exact.items()}
    head = delta_header(schema, steps, encoding="F32", base_digest=digest)
    (tmp_path / "delta").write_bytes(head + steps["layer.bias"].tobytes())
    moved = write_model(tmp_path / "moved", exact | {"layer.bias": floats(np.arange(8) / 4 + 0.5)})
    assert fuse(base2, [tmp_path / "delta"], tmp_path / "o1") == fuse(base2, [moved], tmp_path / "o2")
    with pytest.raises(SchemaMismatchError, match="made from base"):
        fuse(base, [tmp_path / "delta"], tmp_path / "o3")


def test_one_model_alone_is_itself(tmp_path: Path, base: Path) -> None:
    only = write_model(tmp_path / "only", finetune(MODEL, 1))
    assert fuse(base, [only], tmp_path / "out") == open_checkpoint(only).digest()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"position_ids": integers(range(1, 11))}, r"tensor position_ids \(I64\) differs from the base's"),
        ({"position_ids": floats(np.zeros(10))}, "tensor position_ids: dtype F32, base has I64"),
        ({"layer.bias": integers(range(8))}, "tensor layer.bias: dtype I64, base has F32"),
        ({"layer.bias": floats(np.zeros(9))}, r"tensor layer.bias: shape \[9\], base has \[8\]"),
        ({"classifier": floats(1.0)}, "tensor classifier is not in the base"),
        ({"scale": None}, "tensor scale of the base is missing"),
    ],
    ids=["other ids", "ids as floats", "floats as ids", "shape", "head", "missing"],
)
def test_a_model_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path, base: Path, change, says) -> None:
    changed = {name: tensor for name, tensor in (MODEL | change).items() if tensor is not None}
    other = write_model(tmp_path / "other", changed)
    with pytest.raises(SchemaMismatchError, match=says):
        fuse(base, [other], tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["base", "other"]


def test_integers_of_another_width_are_refused_by_name(tmp_path: Path, base: Path) -> None:
    from tiny_rounds import Tensor, TensorSpec

    narrow = Tensor(TensorSpec(dtype="I32", shape=(10,)), np.arange(10, dtype=np.int32).tobytes())
    other = write_model(tmp_path / "other", MODEL | {"position_ids": narrow})
    with pytest.raises(SchemaMismatchError, match="tensor position_ids: dtype I32, base has I64"):
        fuse(base, [other], tmp_path / "out")


def test_weights_that_make_no_mean_leave_nothing_behind(tmp_path: Path, base: Path) -> None:
    other = write_model(tmp_path / "other", finetune(MODEL, 1))
    with pytest.raises(FusionError, match="weights sum to 0"):
        fuse(base, [other], tmp_path / "out", weights=[0.0])
    assert sorted(os.listdir(tmp_path)) == ["base", "other"]


def test_what_is_there_is_not_written_over(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserInputError, match="base: exists already"):
        fuse(base, [base], base)


def test_what_is_no_model_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserInputError, match="and there is none"):
        fuse(base, [tmp_path / "nothing"], tmp_path / "out")
    statistics = tmp_path / "statistics.safetensors"
    statistics.write_bytes(format_header([], {"format": "coldfuse-statistics"}))
    with pytest.raises(UserInputError, match="a file of coldfuse-statistics; expected a model, an adapter's folder or"):
        fuse(base, [statistics], tmp_path / "out")
    for name in ("base_model.model.a.lora_A.weight", "lora_unet_a.lora_down.weight"):
        write_file(tmp_path / "adapter.safetensors", {name: floats([1.0])})
        with pytest.raises(UserInputError, match=r"an adapter's weights without its settings; .*adapter_config\.json"):
            fuse(base, [tmp_path / "adapter.safetensors"], tmp_path / "out")


def test_a_model_with_a_nan_is_named_with_its_tensor(base: Path, tmp_path: Path) -> None:
    name, tensor = next((n, t) for n, t in MODEL.items() if t.spec.is_fused and t.spec.num_elements > 1)
    values = tensor.floats.copy()
    values.reshape(-1)[0] = np.nan
    bad = write_model(tmp_path / "bad", MODEL | {name: floats(values)})
    with pytest.raises(FusionError, match=rf"{name}: .*bad/model.safetensors holds NaN"):
        fuse(base, [write_model(tmp_path / "good", finetune(MODEL, 1)), bad], tmp_path / "out")


def test_what_a_killed_fusion_left_beside_the_result_is_removed(base: Path, tmp_path: Path) -> None:
    left = tmp_path / ".out.fusing-4194999"  # beyond any process id
    left.mkdir()
    fuse(base, [write_model(tmp_path / "one", finetune(MODEL, 1))], tmp_path / "out")
    assert not left.exists()
