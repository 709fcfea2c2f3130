"""A weight that the base ties and stores twice is one: fused, ranked and counted once, and written alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from tiny_rounds import Model, Tensor, floats, parse_file, read_model, write_model

from coldfuse.adapters.layout import layout_by_names
from coldfuse.adapters.recompress import recompress
from coldfuse.adapters.writing import write_lora_adapter
from coldfuse.core.schema import TensorSpec
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.explain import explain
from coldfuse.engine.folder_fusion import FolderFusion, fuse_prepared, open_fusion
from coldfuse.engine.fuse import Prepared
from coldfuse.engine.measuring import measure_all
from coldfuse.engine.outputs import Output
from coldfuse.engine.preview import describe
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.tied import find_tied
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import format_header
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header

EMBEDDING, HEAD, LAYER = "model.embed_tokens.weight", "lm_head.weight", "model.layer.weight"
SHAPES = {EMBEDDING: (24, 8), LAYER: (8, 8), "model.norm.weight": (8,)}
EXECUTOR = ThreadExecutor(2)


def once(seed: int, base: Model | None = None) -> Model:
    rng = np.random.default_rng(seed)
    start = {name: tensor.floats for name, tensor in base.items()} if base else dict.fromkeys(SHAPES, 0.0)
    return {name: floats(start[name] + rng.normal(size=shape) / 8) for name, shape in SHAPES.items()}


BASE = once(0)
MODELS = [once(seed, BASE) for seed in (1, 2, 3)]


def twice(model: Model) -> Model:
    """Put the head first, so that it and the embedding are cut into other parts."""
    return {HEAD: model[EMBEDDING], **model}


def write(folder: Path, model: Model, **config: object) -> Path:
    write_model(folder, model)
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": True} | config))
    return folder


def write_all(root: Path, models: list[Model]) -> list[Path]:
    return [write(root / f"m{index}", model) for index, model in enumerate(models)]


def opened(base: Path, models: list[Path], method: str) -> Prepared:
    return open_fusion(FolderFusion(base=base, models=models, out=base / "x", recipe=read_recipe(method)))


@pytest.mark.parametrize(
    "method",
    [
        "mean", "krum", "iso-c", "ties(density=0.2, flavour=mergekit)", "clip then dare then ties(density=0.5)",
        "della then mean then nesterov",
    ],
)  # fmt: skip
def test_a_second_copy_in_the_base_changes_nothing(tmp_path: Path, method: str) -> None:
    models = write_all(tmp_path, MODELS)
    fuse(write(tmp_path / "once", BASE), models, tmp_path / "expected", method)
    fuse(write(tmp_path / "twice", twice(BASE)), models, tmp_path / "out", method)
    assert read_model(tmp_path / "out") == twice(read_model(tmp_path / "expected"))


@pytest.mark.parametrize("method", ["clip then dare then ties(density=0.5)", "della then mean then nesterov"])
def test_both_copies_come_out_alike_however_they_are_cut(tmp_path: Path, small_parts: int, method: str) -> None:
    models = write_all(tmp_path, [twice(MODELS[0]), MODELS[1], twice(MODELS[2])])
    base = write(tmp_path / "base", twice(BASE))
    for number in range(2):  # the second starts from what outer steps remember
        fuse(base, models, tmp_path / f"out{number}", method, output=Output(shard_bytes=700))
        base = tmp_path / f"out{number}"
        made = read_model(base)
        assert made[HEAD] == made[EMBEDDING] != BASE[EMBEDDING]


@pytest.mark.parametrize("method", ["ties(density=0.2, flavour=mergekit)", "clip then ties"])
def test_a_tied_tensor_is_measured_once(tmp_path: Path, method: str) -> None:
    plain = opened(write(tmp_path / "once", BASE), write_all(tmp_path / "a", MODELS[:1]), method)
    tied = opened(write(tmp_path / "twice", twice(BASE)), write_all(tmp_path / "b", [twice(MODELS[0])]), method)
    assert tied.fusion.num_elements == plain.fusion.num_elements == 24 * 8 + 8 * 8 + 8
    one, two = (measure_all(EXECUTOR, p.passes, p.fusion).measured for p in (plain, tied))
    assert one
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[k][name], two[k][name]) for k in one for name in one[k])


def test_the_plan_and_the_explanation_count_it_once(tmp_path: Path) -> None:
    prepared = opened(write(tmp_path / "base", twice(BASE)), write_all(tmp_path, [twice(MODELS[0])]), "median")
    assert describe(prepared, EXECUTOR).num_tensors == 3
    fused = fuse_prepared(prepared, tmp_path / "out", EXECUTOR)
    assert explain(prepared, fused.fused.fusion, tmp_path / "out", EXECUTOR).tensors.keys() == SHAPES.keys()


def test_a_model_that_stores_the_head_alone_has_the_embedding_too(tmp_path: Path) -> None:
    headed = {HEAD if name == EMBEDDING else name: tensor for name, tensor in MODELS[0].items()}
    base = write(tmp_path / "base", twice(BASE))
    fuse(base, [write(tmp_path / "headed", headed)], tmp_path / "out")
    assert read_model(tmp_path / "out") == twice(MODELS[0])


def test_a_model_whose_training_untied_them_is_refused(tmp_path: Path) -> None:
    base = write(tmp_path / "base", twice(BASE))
    model = write(tmp_path / "model", twice(MODELS[0]) | {HEAD: MODELS[1][EMBEDDING]})
    with pytest.raises(SchemaMismatchError, match=rf"model: tensors {EMBEDDING} and {HEAD} differ, but in the base"):
        fuse(base, [model], tmp_path / "out")


def test_a_missing_embedding_and_head_are_missed(tmp_path: Path) -> None:
    base = write(tmp_path / "base", twice(BASE))
    model = write(tmp_path / "model", {name: t for name, t in MODELS[0].items() if name != EMBEDDING})
    with pytest.raises(SchemaMismatchError, match=rf"tensor {HEAD} of the base is missing"):
        fuse(base, [model], tmp_path / "out")


def test_what_the_base_calls_untied_is_fused_apart(tmp_path: Path) -> None:
    base = write(tmp_path / "base", twice(BASE), tie_word_embeddings=False)
    apart = twice(MODELS[0]) | {HEAD: MODELS[1][EMBEDDING]}
    fuse(base, [write(tmp_path / "model", apart)], tmp_path / "out")
    assert read_model(tmp_path / "out") == apart
    with pytest.raises(SchemaMismatchError, match=rf"{HEAD} of the base is missing"):
        fuse(base, write_all(tmp_path, MODELS[:1]), tmp_path / "more")


def flipped(tensor: Tensor) -> Tensor:
    raw = bytearray(tensor.data)
    raw[-4] ^= 1
    return replace(tensor, data=bytes(raw))


T5_COPIES = [HEAD, "decoder.embed_tokens.weight", "encoder.embed_tokens.weight"]
VALUES, BIAS = BASE[EMBEDDING], floats(np.arange(5.0))


@pytest.mark.parametrize(
    ("tensors", "tied"),
    [
        ({EMBEDDING: VALUES, HEAD: VALUES}, {HEAD: EMBEDDING}),
        ({EMBEDDING: VALUES, HEAD: flipped(VALUES)}, {}),
        ({"transformer.wte.weight": VALUES, HEAD: VALUES}, {HEAD: "transformer.wte.weight"}),
        ({"neox.embed_in.weight": VALUES, "embed_out.weight": VALUES}, {"embed_out.weight": "neox.embed_in.weight"}),
        (
            {
                "cls.predictions.bias": BIAS, "cls.predictions.decoder.bias": BIAS,
                "cls.predictions.decoder.weight": VALUES, "bert.embeddings.word_embeddings.weight": VALUES,
            },
            {
                "cls.predictions.decoder.bias": "cls.predictions.bias",
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            },
        ),
        (
            dict.fromkeys([*T5_COPIES, "shared.weight"], VALUES),
            dict.fromkeys(T5_COPIES, "shared.weight"),
        ),
        (
            dict.fromkeys([HEAD, "model.decoder.embed_tokens.weight"], VALUES),
            {HEAD: "model.decoder.embed_tokens.weight"},
        ),
        ({"layer.0.weight": VALUES, "layer.1.weight": VALUES, "a.bias": BIAS, "a.decoder.bias": BIAS}, {}),
    ],
    ids=["llama", "one bit", "gpt2", "neox", "bert", "t5", "opt", "others"],
)  # fmt: skip
def test_copies_are_known_by_names_and_bytes(tmp_path: Path, tensors: Model, tied: dict[str, str]) -> None:
    assert find_tied(open_checkpoint(write(tmp_path / "base", tensors))) == tied


def delta_file(path: Path, base: Path, values: dict[str, np.ndarray]) -> Path:
    folder = open_checkpoint(base)
    header = delta_header(folder.schema, values, encoding="F32", base_digest=folder.digest())
    path.write_bytes(header + b"".join(values[name].astype(np.float32).tobytes() for name in sorted(values)))
    return path


CHANGE = np.random.default_rng(9).normal(size=SHAPES[EMBEDDING]).astype(np.float32)


@pytest.mark.parametrize("names", [[EMBEDDING], [HEAD], [EMBEDDING, HEAD]])
def test_a_delta_of_one_counts_for_both(tmp_path: Path, names: list[str]) -> None:
    base = write(tmp_path / "base", twice(BASE))
    delta = delta_file(tmp_path / "delta.safetensors", base, dict.fromkeys(names, CHANGE))
    fuse(base, [delta], tmp_path / "out", "dare")
    made = read_model(tmp_path / "out")
    assert made[HEAD] == made[EMBEDDING] != BASE[EMBEDDING]


def test_a_delta_that_pulls_them_apart_is_refused(tmp_path: Path) -> None:
    base = write(tmp_path / "base", twice(BASE))
    delta = delta_file(tmp_path / "delta.safetensors", base, {EMBEDDING: CHANGE, HEAD: -CHANGE})
    with pytest.raises(SchemaMismatchError, match=rf"{EMBEDDING} and {HEAD} differ"):
        fuse(base, [delta], tmp_path / "out")


def adapter(folder: Path, *names: str) -> Path:
    values = np.random.default_rng(9)
    factors = {name: recompress(values.normal(size=SHAPES.get(name, (24, 8))), 2, name=name) for name in names}
    schema = {name: TensorSpec(dtype="F32", shape=SHAPES.get(name, (24, 8))) for name in names}
    write_lora_adapter(folder, "base", factors, schema=schema, layout=layout_by_names(schema))
    return folder


@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
def test_an_adapter_of_one_counts_for_both(tmp_path: Path, name: str) -> None:
    base = write(tmp_path / "base", twice(BASE))
    fuse(base, [adapter(tmp_path / "adapter", name)], tmp_path / "out")
    made = read_model(tmp_path / "out")
    assert made[HEAD] == made[EMBEDDING] != BASE[EMBEDDING]


def test_an_adapter_with_factors_for_both_is_refused(tmp_path: Path) -> None:
    base = write(tmp_path / "base", twice(BASE))
    with pytest.raises(SchemaMismatchError, match=rf"{EMBEDDING} and {HEAD} differ"):
        fuse(base, [adapter(tmp_path / "adapter", EMBEDDING, HEAD)], tmp_path / "out")


@pytest.mark.parametrize("is_alike", [True, False])
def test_an_adapter_that_stores_both_whole_must_have_them_alike(tmp_path: Path, is_alike: bool) -> None:
    base, folder = write(tmp_path / "base", twice(BASE)), adapter(tmp_path / "adapter", LAYER)
    stored = parse_file((folder / "adapter_model.safetensors").read_bytes())
    for name, values in ((EMBEDDING, MODELS[0][EMBEDDING]), (HEAD, MODELS[0 if is_alike else 1][EMBEDDING])):
        stored[f"base_model.model.{name}"] = values
    header = format_header([(name, tensor.spec) for name, tensor in stored.items()], {})
    (folder / "adapter_model.safetensors").write_bytes(header + b"".join(t.data for t in stored.values()))
    if is_alike:
        fuse(base, [folder], tmp_path / "out")
        assert read_model(tmp_path / "out")[HEAD] == MODELS[0][EMBEDDING]
    else:
        with pytest.raises(SchemaMismatchError, match=rf"{EMBEDDING} and {HEAD} differ"):
            fuse(base, [folder], tmp_path / "out")


def test_statistics_of_one_are_those_of_both(tmp_path: Path) -> None:
    base, models = write(tmp_path / "base", twice(BASE)), write_all(tmp_path, MODELS[:2])
    outs = []
    for name in (EMBEDDING, HEAD):
        files = []
        for index, model in enumerate(models):
            digest = open_checkpoint(model).digest()
            info = StatisticsInfo(
                kind="fisher", estimator="exact", model=digest, num_examples=1, over="examples", count=1
            )
            files.append(tmp_path / f"{name}{index}")
            values = np.full(SHAPES[EMBEDDING], 1.0 + 3 * index, np.float32).tobytes()
            files[-1].write_bytes(statistics_header({name: SHAPES[EMBEDDING]}, info) + values)
        fuse(base, models, tmp_path / f"out {name}", "fisher", statistics=files)
        outs.append(read_model(tmp_path / f"out {name}"))
    assert outs[0] == outs[1]
    assert outs[0][HEAD] == outs[0][EMBEDDING] != read_mean(tmp_path, base, models)[EMBEDDING]


def read_mean(tmp_path: Path, base: Path, models: list[Path]) -> Model:
    fuse(base, models, tmp_path / "mean")
    return read_model(tmp_path / "mean")


def test_a_delta_that_is_written_has_both_and_can_be_fused(tmp_path: Path) -> None:
    base, models = write(tmp_path / "base", twice(BASE)), write_all(tmp_path, MODELS)
    fuse(base, models, tmp_path / "delta", "dare", output=Output(kind="delta"))
    made = parse_file((tmp_path / "delta").read_bytes())
    assert made[HEAD] == made[EMBEDDING]
    fuse(base, [tmp_path / "delta"], tmp_path / "out")


def test_an_adapter_that_is_written_has_it_once_and_can_be_fused(tmp_path: Path) -> None:
    base, models = write(tmp_path / "base", twice(BASE)), write_all(tmp_path, MODELS)
    fuse(base, models, tmp_path / "adapter", output=Output(kind="adapter", rank=8))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.embed_tokens", "model.layer"]
    fuse(base, [tmp_path / "adapter"], tmp_path / "out")
    fuse(base, models, tmp_path / "expected")
    made, expected = read_model(tmp_path / "out")[HEAD].floats, read_model(tmp_path / "expected")[HEAD].floats
    assert np.allclose(made, expected, atol=1e-5)
