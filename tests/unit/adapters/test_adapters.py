"""Reading adapter folders, made by hand: what is taken, under which names, and what is said of the rest."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import floats, integers, write_file

from coldfuse.adapters.adapter import Adapter, is_adapter, open_adapter, read_stored
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.errors import ColdfuseError, SchemaMismatchError, UserInputError

RNG = np.random.default_rng(0)
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


def schema(**shapes: tuple[int, ...]) -> Schema:
    return {name.replace("_", "."): TensorSpec(dtype="F32", shape=shape) for name, shape in shapes.items()}


BASE = schema(a_q_weight=(6, 5), a_q_bias=(6,), a_sq_weight=(4, 4), norm_weight=(5,), emb_weight=(9, 3))


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def pair(module: str, outputs: int = 6, inputs: int = 5, rank: int = 2) -> dict[str, np.ndarray]:
    return {f"{module}.lora_A.weight": numbers(rank, inputs), f"{module}.lora_B.weight": numbers(outputs, rank)}


def write(
    folder: Path, tensors: dict[str, np.ndarray], config: dict[str, object] = LORA, *, dtype: str = "F32"
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    stored = {f"base_model.model.{name}": floats(values, dtype) for name, values in tensors.items()}
    write_file(folder / "adapter_model.safetensors", stored)
    return folder


def opened(
    folder: Path, tensors: dict[str, np.ndarray], config: dict[str, object] = LORA, base: Schema = BASE
) -> Adapter:
    return open_adapter(write(folder, tensors, config), base, what="alice")


def delta(adapter: Adapter, name: str, base: np.ndarray | None = None) -> np.ndarray:
    tensor = adapter.tensors[name]
    rows, columns = tensor.rows_columns
    values = np.zeros((rows, columns)) if base is None else base.reshape(rows, columns)
    return tensor.delta_rows(read_stored, values, 0, rows).reshape(tensor.shape)


def test_lora_is_the_scaled_product(tmp_path: Path) -> None:
    tensors = pair("a.q")
    expected = 2.0 * tensors["a.q.lora_B.weight"].astype(float) @ tensors["a.q.lora_A.weight"].astype(float)
    adapter = opened(tmp_path, tensors)
    assert list(adapter.tensors) == ["a.q.weight"]
    np.testing.assert_allclose(delta(adapter, "a.q.weight"), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4 / np.sqrt(2)),
        ({"r": 7, "rank_pattern": {"q": 2}}, 2.0),
        ({"alpha_pattern": {"x": 9, r"a\.[q]": 3, "q": 5}}, 1.5),
        ({"alpha_pattern": {"sq": 9}, "rank_pattern": None}, 2.0),
    ],
)
def test_the_scale_follows_the_configuration(tmp_path: Path, settings: dict[str, object], scale: float) -> None:
    tensors = pair("a.q")
    got = delta(opened(tmp_path, tensors, LORA | settings), "a.q.weight")
    product = tensors["a.q.lora_B.weight"].astype(float) @ tensors["a.q.lora_A.weight"].astype(float)
    np.testing.assert_allclose(got, scale * product, rtol=1e-14)


@pytest.mark.parametrize(
    ("own", "base"),
    [("", ""), ("bert.", ""), ("m.bert.", ""), ("", "bert."), ("bert.", "bert."), ("", "a.b.")],
    ids=lambda name: name or "none",
)
def test_one_prefix_more_or_less_is_found(tmp_path: Path, own: str, base: str) -> None:
    named = {f"{base}{name}": spec for name, spec in BASE.items()}
    adapter = opened(tmp_path, pair(f"{own}a.q") | {f"{own}norm.weight": numbers(5)}, base=named)
    assert list(adapter.tensors) == [f"{base}a.q.weight", f"{base}norm.weight"]
    assert adapter.ignored == ()


def test_a_prefix_that_could_be_either_of_two_is_refused(tmp_path: Path) -> None:
    twice = {f"{side}.{name}": spec for side in ("encoder", "decoder") for name, spec in BASE.items()}
    with pytest.raises(SchemaMismatchError, match=r"alice: its modules fit the base in several ways \(prefix 'decoder"):
        opened(tmp_path, pair("a.q"), base=twice)


def test_heads_that_the_base_does_not_have_are_named(tmp_path: Path) -> None:
    tensors = pair("bert.a.q") | pair("bert.a.sq", 4, 4) | pair("cls.dense")
    adapter = opened(tmp_path, tensors | {"classifier.weight": numbers(2, 5)})
    assert adapter.ignored == ("classifier.weight", "cls.dense.lora_A", "cls.dense.lora_B")
    assert list(adapter.tensors) == ["a.q.weight", "a.sq.weight"]


def test_tensors_trained_whole_are_differences(tmp_path: Path) -> None:
    norm, bias, base = numbers(5), numbers(6), numbers(6)
    tensors = pair("a.q") | {"norm.modules_to_save.weight": norm, "a.q.base_layer.bias": bias}
    adapter = opened(tmp_path, tensors)
    np.testing.assert_array_equal(delta(adapter, "norm.weight"), norm.astype(float))
    np.testing.assert_array_equal(delta(adapter, "a.q.bias", base.astype(float)), bias.astype(float) - base)


def test_two_versions_of_a_tensor_trained_whole_are_refused_with_both_names(tmp_path: Path) -> None:
    norm, names = numbers(5), ("norm.modules_to_save.weight", "norm.weight")
    with pytest.raises(UserInputError, match=r"norm\.modules_to_save\.weight' and .*norm\.weight' are one module's"):
        opened(tmp_path, pair("a.q") | dict(zip(names, (norm, norm + 1), strict=True)))
    alike = opened(tmp_path / "alike", pair("a.q") | dict.fromkeys(names, norm))
    assert "norm.weight" in alike.tensors


def test_a_resaved_embedding_and_its_factors_add_up(tmp_path: Path) -> None:
    a, b, new, old = numbers(2, 9), numbers(3, 2), numbers(9, 3), numbers(9, 3).astype(float)
    tensors = {"emb.lora_embedding_A": a, "emb.lora_embedding_B": b, "emb.base_layer.weight": new}
    got = delta(opened(tmp_path, tensors), "emb.weight", old)
    np.testing.assert_allclose(got, new - old + 2.0 * (b.astype(float) @ a.astype(float)).T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("flag", [False, True])
def test_shapes_tell_inputs_by_outputs_and_the_flag_decides_for_squares(tmp_path: Path, flag: bool) -> None:
    a, b = numbers(2, 4), numbers(4, 2)
    adapter = opened(tmp_path, {"a.sq.lora_A.weight": a, "a.sq.lora_B.weight": b}, LORA | {"fan_in_fan_out": flag})
    product = 2.0 * b.astype(float) @ a.astype(float)
    np.testing.assert_allclose(delta(adapter, "a.sq.weight"), product.T if flag else product, rtol=1e-14)


def test_a_flag_that_other_layers_contradict_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"fan_in_fan_out=True does not hold for all layers, so 'a.sq'.* merge it"):
        opened(tmp_path, pair("a.q") | pair("a.sq", 4, 4), LORA | {"fan_in_fan_out": True})


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_factors_of_any_float_dtype_are_read(tmp_path: Path, dtype: str) -> None:
    tensors = {"a.q.lora_A.weight": np.full((2, 5), 0.5), "a.q.lora_B.weight": np.full((6, 2), 0.25)}
    adapter = open_adapter(write(tmp_path, tensors, dtype=dtype), BASE, what="alice")
    np.testing.assert_array_equal(delta(adapter, "a.q.weight"), np.full((6, 5), 0.5))


def test_an_adapter_can_be_sent_to_another_process(tmp_path: Path) -> None:
    adapter = opened(tmp_path, pair("a.q"))
    again = pickle.loads(pickle.dumps(adapter))
    np.testing.assert_array_equal(delta(again, "a.q.weight"), delta(adapter, "a.q.weight"))


def test_the_configuration_has_a_digest_of_what_counts(tmp_path: Path) -> None:
    digests = [
        opened(tmp_path / str(number), pair("a.q"), LORA | more).config_digest
        for number, more in enumerate([{}, {"base_model_name_or_path": "/x", "lora_dropout": 0.5}, {"lora_alpha": 5}])
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING cannot be fused: it stores keys .*; train one that"),
        ({"peft_type": "NEWEST"}, "adapters of type 'NEWEST' are not known; known are ADALORA, .*"),
        ({"peft_type": "OFT", "r": 0, "rank_pattern": []}, "'a.q.lora_A.weight' is none of a plain OFT adapter's"),
        ({}, "peft_type: Field required"),
        ({"peft_type": ["OFT"], "r": 2}, "peft_type: Input should be a valid string"),
        (LORA | {"r": 0}, "r: Input should be greater than or equal to 1"),
        (LORA | {"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4' moves a part of the base .*_conversion="),
        (LORA | {"init_lora_weights": "novel"}, "init_lora_weights='novel' is not known; merge it"),
        (LORA | {"alora_invocation_tokens": [1]}, "alora_invocation_tokens .* some of the tokens only, so no weights"),
        (LORA | {"rank_pattern": {"(": 2}}, "is no regular expression"),
        (LORA | {"rank_pattern": {"((a.)+.?)+!": 2}}, "repeats a group, .* name the modules in full"),
        (LORA | {"alpha_pattern": {".*.*.*.*!": 2}}, "more than 3 parts"),
        ({"peft_type": "LOHA", "alpha_pattern": {"(a|a)*!": 2}}, "repeats a group"),
        (LORA | {"rank_pattern": {"q": 0}}, "a rank below 1"),
        (LORA | {"r": 3}, r"shapes \[6, 2\] and \[2, 5\] do not multiply over the configured rank 3"),
        (LORA | {"use_dora": True}, "module 'a.q' has lora_A, lora_B but no lora_magnitude_vector"),
        ({"peft_type": "LOHA"}, "tensor 'a.q.lora_A.weight' is none of a plain LOHA adapter's"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_read_are_one_clear_line(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(ColdfuseError, match=message) as caught:
        opened(tmp_path, pair("a.q"), config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no tensor of a LORA adapter"),
        ({"norm.weight": numbers(5)}, "holds no tensor of a LORA adapter"),
        ({"a.q.lora_A.weight": numbers(2, 5)}, "module 'a.q' has lora_A but no lora_B"),
        (pair("a.k"), "module 'a.k' is not in the base, under any prefix .*; the base has '.*', for example"),
        (pair("a.q", 6, 7), r"'a.q.weight': the adapter changes shape \[6, 7\], base has \[6, 5\]; was its voc"),
        (pair("a.q") | {"norm.weight": numbers(6)}, r"'norm.weight': shape \[6\], base has \[5\]; was its voc"),
        (
            pair("a.q") | {"emb.lora_embedding_A": numbers(2, 11), "emb.lora_embedding_B": numbers(3, 2)},
            r"'emb.weight': the adapter changes shape \[11, 3\], base has \[9, 3\]: 2 rows more; was its vocabulary",
        ),
        (
            pair("a.q") | {"emb.weight": numbers(8, 3)},
            r"'emb.weight': shape \[8, 3\], base has \[9, 3\]: 1 row fewer; was its vocabulary",
        ),
        (pair("a.sq", 4, 4) | {"a.sq.lora_B.bias": numbers(4)}, r"'a.sq.bias': .* \[4\], the base has no such tensor"),
        (pair("a.q") | {"a.q.lora_B.bias": numbers(4)}, r"'a.q.bias': the adapter changes shape \[4\], .* \[6\]"),
        (pair("a.q") | {"a.q.lora_magnitude_vector": numbers(5)}, r"changes shape \[5\]"),
        (pair("a.q") | {"a.q.lora_diag": numbers(2)}, "'a.q.lora_diag' is none of a plain LORA adapter's; merge it"),
        (
            pair("a.q") | {"a.q.lora_magnitude_vector": numbers(6), "a.q.base_layer.weight": numbers(6, 5)},
            "'a.q.weight' is changed twice, in ways that do not add up; merge it",
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_one_clear_line(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises((UserInputError, SchemaMismatchError), match=f"^alice: .*{message}") as caught:
        opened(tmp_path, tensors)
    assert "\n" not in str(caught.value)


def test_a_quantised_base_or_factor_is_refused(tmp_path: Path) -> None:
    coarse = {**BASE, "a.q.weight": TensorSpec(dtype="I8", shape=(6, 5))}
    with pytest.raises(SchemaMismatchError, match=r"'a.q.weight': the base has it as I8"):
        opened(tmp_path, pair("a.q"), base=coarse)
    factors = {"a.q.lora_A.weight": integers([1, 2]), "a.q.lora_B.weight": integers([1, 2])}
    write_file(tmp_path / "adapter_model.safetensors", factors)
    with pytest.raises((UserInputError, SchemaMismatchError)):
        open_adapter(tmp_path, BASE, what="alice")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("adapter_config.json", "expected a PEFT adapter folder, but .* has no adapter_config.json"),
        (
            "adapter_model.safetensors",
            "it has adapter_config.json but no adapter_model.safetensors: it was not saved or downloaded",
        ),
    ],
)
def test_missing_files_are_named(tmp_path: Path, missing: str, message: str) -> None:
    folder = write(tmp_path, pair("a.q"))
    (folder / missing).unlink()
    with pytest.raises(UserInputError, match=f"^alice: {message}"):
        open_adapter(folder, BASE, what="alice")
    assert is_adapter(folder) == (missing != "adapter_config.json")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "null", '{"peft_type": "LORA", "r": NaN}', '{"peft_type": "LORA", "lora_alpha": 1e999}']
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, pair("a.q"))
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ColdfuseError, match=re.escape("alice: adapter_config.json")):
        open_adapter(folder, BASE, what="alice")


def test_norms_that_were_tuned_are_replaced_and_a_head_beside_them_stays_out(tmp_path: Path) -> None:
    norm, old = numbers(5), numbers(5).astype(float)
    tensors = {"bert.norm.ln_tuning_layers.weight": norm, "classifier.weight": numbers(2, 5)}
    adapter = opened(tmp_path, tensors, {"peft_type": "LN_TUNING"})
    np.testing.assert_array_equal(delta(adapter, "norm.weight", old), norm.astype(float) - old)
    assert adapter.ignored == ("classifier.weight",)
    with pytest.raises(SchemaMismatchError, match=r"'norm\.bias': .* \[5\], the base has no such tensor"):
        opened(tmp_path, {"norm.ln_tuning_layers.bias": norm}, {"peft_type": "LN_TUNING"})


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_tokens_that_were_trained_alone_replace_their_rows(tmp_path: Path, dtype: str) -> None:
    rows, old = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), numbers(9, 3).astype(float)
    write(tmp_path, {"emb.trainable_tokens_delta": rows}, {"peft_type": "TRAINABLE_TOKENS", "token_indices": [7, 2]},
          dtype=dtype)  # fmt: skip
    adapter = open_adapter(tmp_path, BASE, what="alice")
    expected = np.zeros((9, 3))
    expected[7], expected[2] = rows[0] - old[7], rows[1] - old[2]
    np.testing.assert_array_equal(delta(adapter, "emb.weight", old), expected)
    pieces = [adapter.tensors["emb.weight"].delta_rows(read_stored, old[i : i + 1], i, 1) for i in range(9)]
    np.testing.assert_array_equal(np.concatenate(pieces), expected)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1], r"'base_model.model.emb.trainable_tokens_delta': shape \[2, 3\], expected 3 numbers for each of the 1"),
        ([1, 1], "names a token twice"),
        ([1, 9], "names token 9, the base has 9; was its vocabulary resized"),
        ([-1, 2], "names token -1"),
    ],
)
def test_tokens_that_the_base_does_not_have_are_refused(tmp_path: Path, indices: list[int], message: str) -> None:
    config = {"peft_type": "TRAINABLE_TOKENS", "token_indices": indices}
    with pytest.raises(SchemaMismatchError, match=message):
        opened(tmp_path, {"emb.trainable_tokens_delta": numbers(2, 3)}, config)
