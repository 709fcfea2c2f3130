from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bodies import write_architecture
from folder_fusions import fuse
from tiny_rounds import Model, Tensor, floats, integers, read_model, write_model

from coldfuse.core.schema import TensorSpec
from coldfuse.engine.outputs import Output
from coldfuse.errors import FusionError, SchemaMismatchError
from coldfuse.tensors.checkpoint import open_checkpoint

RNG = np.random.default_rng(7)
TOKENS = RNG.normal(size=(6, 4))
BASE: Model = {
    "embed_tokens.weight": floats(TOKENS),
    "norm.running_mean": floats([0.0, 2.0]),
    "norm.running_var": floats([1.0, 3.0]),
    "norm.num_batches_tracked": integers([5]),
    "position_ids": integers(range(3)),
}
OTHER_TOKENS = floats(TOKENS + 1)


def write(folder: Path, change: dict[str, Tensor | None], **config: object) -> Path:
    model = {name: tensor for name, tensor in (BASE | change).items() if tensor is not None}
    write_model(folder, model)
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny", **config}))
    return folder


def refused(tmp_path: Path, change: dict[str, Tensor | None], says: str, **config: object) -> None:
    base, other = write(tmp_path / "base", {}, **config), write(tmp_path / "other", change)
    with pytest.raises(SchemaMismatchError, match=says):
        fuse(base, [other], tmp_path / "out")


@pytest.mark.parametrize(("num_rows", "says"), [(7, "1 row more"), (4, "2 rows fewer")])
def test_another_vocabulary_is_refused_with_the_number_of_rows(tmp_path: Path, num_rows: int, says: str) -> None:
    rows = floats(np.zeros((num_rows, 4)))
    refused(tmp_path, {"embed_tokens.weight": rows}, f"other: tensor embed_tokens.weight: .*{says}; was its vocabulary")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    refused(tmp_path, {"norm.running_mean": None}, "norm.running_mean of the base is missing")


@pytest.mark.parametrize(("base", "model"), [("BERT", "Llama"), ("Llama", "BERT"), ("GPT-2", "BERT")])
def test_a_model_of_another_kind_is_refused_though_each_would_load_without_the_others_tensors(
    tmp_path: Path, base: str, model: str
) -> None:
    folders = [write_architecture(tmp_path / name, name) for name in (base, model)]
    with pytest.raises(SchemaMismatchError, match=r"none of its tensors is one of the base's.*of another kind"):
        fuse(folders[0], [folders[1]], tmp_path / "out")


def test_a_tensor_of_its_own_is_named(tmp_path: Path) -> None:
    refused(tmp_path, {"classifier.weight": floats(np.zeros((2, 4)))}, "tensor classifier.weight is not in the base")


def test_a_stored_copy_of_the_tied_embedding_is_left_out(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {}, tie_word_embeddings=True)
    tied = write(tmp_path / "tied", {"embed_tokens.weight": OTHER_TOKENS})
    untied = write(tmp_path / "untied", {"embed_tokens.weight": OTHER_TOKENS, "lm_head.weight": OTHER_TOKENS})
    assert fuse(base, [untied], tmp_path / "out") == fuse(base, [tied], tmp_path / "expected")
    assert "lm_head.weight" not in read_model(tmp_path / "out")


def test_a_head_that_was_trained_apart_from_the_embedding_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, {"lm_head.weight": OTHER_TOKENS}, "lm_head.weight .* differs from embed_tokens.weight")


def test_one_bit_makes_another_head(tmp_path: Path) -> None:
    raw = bytearray(BASE["embed_tokens.weight"].data)
    raw[-4] ^= 1
    head = Tensor(BASE["embed_tokens.weight"].spec, bytes(raw))
    refused(tmp_path, {"lm_head.weight": head}, "the model's head was trained apart")


def test_no_copy_is_left_out_if_the_base_says_that_its_head_is_untied(tmp_path: Path) -> None:
    same = BASE["embed_tokens.weight"]
    refused(tmp_path, {"lm_head.weight": same}, "lm_head.weight is not in the base", tie_word_embeddings=False)


def test_a_copy_of_what_is_no_embedding_is_not_left_out(tmp_path: Path) -> None:
    refused(tmp_path, {"norm.copy": BASE["norm.running_mean"]}, "norm.copy is not in the base")


def test_a_head_of_another_size_than_the_embedding_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, {"lm_head.weight": floats(np.zeros((7, 4)))}, "lm_head.weight is not in the base")


@pytest.mark.parametrize("kind", ["model", "delta"])
def test_integers_that_differ_are_refused_and_the_model_is_named(tmp_path: Path, kind: str) -> None:
    base = write(tmp_path / "base", {})
    other = write(tmp_path / "other", {"position_ids": integers([0, 1, 3])})
    with pytest.raises(SchemaMismatchError, match=r"position_ids \(I64\) differs .*other/model.safetensors does not"):
        fuse(base, [base, other], tmp_path / "out", output=Output(kind=kind))


@pytest.mark.parametrize("method", ["mean", "ties", "dare"])
def test_an_integer_buffer_that_a_model_lacks_is_the_bases(tmp_path: Path, method: str) -> None:
    base = write(tmp_path / "base", {})
    lacking = {"embed_tokens.weight": OTHER_TOKENS, "position_ids": None, "norm.num_batches_tracked": None}
    fuse(base, [write(tmp_path / "other", lacking)], tmp_path / "out", method)
    made = read_model(tmp_path / "out")
    assert made.keys() == BASE.keys()
    assert made["position_ids"] == BASE["position_ids"]
    assert made["embed_tokens.weight"] != BASE["embed_tokens.weight"]


@pytest.mark.parametrize("kind", ["model", "delta"])
def test_an_integer_buffer_of_one_model_does_not_hide_that_of_another(tmp_path: Path, kind: str) -> None:
    base, lacking = write(tmp_path / "base", {}), write(tmp_path / "lacking", {"position_ids": None})
    other = write(tmp_path / "other", {"position_ids": integers([0, 1, 3])})
    with pytest.raises(SchemaMismatchError, match=r"position_ids \(I64\) differs .*other/model.safetensors does not"):
        fuse(base, [lacking, other], tmp_path / "out", output=Output(kind=kind))


@pytest.mark.parametrize("dtype", ["I64", "BOOL"])
def test_an_integer_buffer_of_a_models_own_is_left_out(tmp_path: Path, dtype: str) -> None:
    mask = Tensor(TensorSpec(dtype=dtype, shape=(2,)), bytes(16 if dtype == "I64" else 2))
    base, other = write(tmp_path / "base", {}), write(tmp_path / "other", {"embed_tokens.weight": OTHER_TOKENS})
    more = write(tmp_path / "more", {"embed_tokens.weight": OTHER_TOKENS, "token_mask": mask})
    assert fuse(base, [more], tmp_path / "out") == fuse(base, [other], tmp_path / "expected")
    assert read_model(tmp_path / "out").keys() == BASE.keys()


def test_floats_are_never_left_out(tmp_path: Path) -> None:
    refused(tmp_path, {"scale": floats(1.0)}, "tensor scale is not in the base: .*; remove that tensor")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F32"])
def test_floats_that_are_not_fused_are_missed_all_the_same(tmp_path: Path, dtype: str) -> None:
    kept = Tensor(TensorSpec(dtype=dtype, shape=(0,)), b"")
    base, other = write(tmp_path / "base", {"kept": kept}), write(tmp_path / "other", {})
    with pytest.raises(SchemaMismatchError, match="tensor kept of the base is missing; save the whole model"):
        fuse(base, [other], tmp_path / "out")


def test_counts_of_batches_differ_by_right_and_the_bases_stays(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {})
    other = write(tmp_path / "other", {"norm.num_batches_tracked": integers([90])})
    assert fuse(base, [other], tmp_path / "out") == open_checkpoint(base).digest()


def test_running_statistics_are_fused_like_all_floats(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {})
    moved = {"norm.running_mean": floats([2.0, 2.0]), "norm.running_var": floats([2.0, 5.0])}
    fuse(base, [base, write(tmp_path / "other", moved)], tmp_path / "out")
    assert read_model(tmp_path / "out")["norm.running_mean"] == floats([1.0, 2.0])
    assert read_model(tmp_path / "out")["norm.running_var"] == floats([1.5, 4.0])


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {})
    models = [write(tmp_path / name, {"norm.running_var": floats([0.25, 3.0])}) for name in "ab"]
    with pytest.raises(FusionError, match=r"norm\.running_var: the fused variance is negative"):
        fuse(base, models, tmp_path / "out", "task-arithmetic(scale=1)")
