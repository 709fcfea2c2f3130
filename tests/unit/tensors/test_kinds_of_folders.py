"""Folders of folders, other names of weights, and what lies beside: which files make the model, and which do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import (
    DENSE,
    ENCODER,
    ROOT,
    ROUTED,
    UNET,
    listed,
    weights,
    write_files,
    write_modules,
    write_pipeline,
)
from tiny_rounds import make_model, write_file, write_model

from coldfuse.core.left_out import LeftOut
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint, open_model

INDEX_OF_UNET = "unet/diffusion_pytorch_model.safetensors.index.json"


def left_out(folder: Path) -> dict[str, tuple[str, ...]]:
    return {item.why: item.names for item in open_checkpoint(folder).left_out("base", how="ask for it")}


def test_the_weights_of_modules_are_tensors_of_the_model(tmp_path: Path) -> None:
    model = open_checkpoint(write_modules(tmp_path / "m"))
    assert sorted(model.files) == sorted([ROOT, DENSE, ROUTED])
    assert sorted(model.schema) == [
        "2_Dense/linear.weight", "3_Router/query_0_Dense/linear.weight", "linear.weight"
    ]  # fmt: skip
    assert sorted([*model.files, *model.plain]) == listed(tmp_path / "m")


def test_what_a_router_before_them_names_is_found_as_well(tmp_path: Path) -> None:
    config = {"types": {"a_0_Dense": "x.Dense"}, "structure": {"a": ["a_0_Dense"]}}
    more = {"3_Router/config.json": config, "3_Router/a_0_Dense/model.safetensors": weights(7)}
    folder = write_modules(tmp_path / "m", **more)
    (folder / "3_Router/router_config.json").unlink()
    assert "3_Router/a_0_Dense/linear.weight" in open_checkpoint(folder).schema
    assert left_out(folder) == {"not known to belong to a model": ("3_Router/query_0_Dense/",)}


def test_the_weights_of_components_are_tensors_of_the_pipeline(tmp_path: Path) -> None:
    model = open_checkpoint(write_pipeline(tmp_path / "m"))
    assert sorted(model.files) == [ENCODER, UNET]
    assert sorted(model.schema) == ["text_encoder/linear.weight", "unet/linear.weight"]
    assert sorted([*model.files, *model.plain]) == listed(tmp_path / "m")


def test_a_component_alone_is_a_model_with_plain_names(tmp_path: Path) -> None:
    model = open_checkpoint(write_pipeline(tmp_path / "m") / "unet")
    assert list(model.schema) == ["linear.weight"]
    assert model.plain == ("config.json",)


def test_the_digest_of_a_model_with_modules_is_not_that_of_its_body(tmp_path: Path) -> None:
    whole, other = write_modules(tmp_path / "m"), write_modules(tmp_path / "n", **{DENSE: weights(99)})
    body = write_files(tmp_path / "b", {"config.json": {}, ROOT: weights(0)})
    assert len({open_checkpoint(folder).digest() for folder in (whole, other, body)}) == 3


def test_modules_whose_body_has_a_folder_of_its_own_are_a_model(tmp_path: Path) -> None:
    modules = [{"path": "0_Transformer"}, {"path": "./1_Pooling"}]
    files = {"modules.json": modules, "0_Transformer/config.json": {}, "0_Transformer/model.safetensors": weights(0)}
    assert list(open_checkpoint(write_files(tmp_path / "m", files)).schema) == ["0_Transformer/linear.weight"]


@pytest.mark.parametrize("path", ["../other", "/etc", "a\\b", None, 3])
def test_modules_outside_of_the_folder_are_refused(tmp_path: Path, path: object) -> None:
    write_modules(tmp_path / "other")
    folder = write_files(tmp_path / "m", {"modules.json": [{"path": path}], "config.json": {}, ROOT: weights(0)})
    with pytest.raises(UserInputError, match=r"modules\.json: expected a list of modules, each with the path"):
        open_checkpoint(folder)


def test_routes_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    config = {"types": {"../../other": "x"}, "structure": {}}
    with pytest.raises(UserInputError, match=r"is no folder of a module"):
        open_checkpoint(write_modules(tmp_path / "m", **{"3_Router/router_config.json": config}))


@pytest.mark.parametrize("module", ["", ".", "./"])
def test_a_route_to_itself_is_refused(module: str, tmp_path: Path) -> None:
    config = {"types": {module: "x"}, "structure": {}}
    with pytest.raises(UserInputError, match="is no folder of a module"):
        open_checkpoint(write_modules(tmp_path / "m", **{"3_Router/router_config.json": config}))


@pytest.mark.parametrize("text", ["x", "[", '{"a": 1}', "5", "null", '[{"path": ""}, "x"]'])
def test_a_list_of_modules_that_is_none_is_refused_in_words(tmp_path: Path, text: str) -> None:
    folder = write_modules(tmp_path / "m", **{"modules.json": text})
    if text.endswith('"x"]'):
        assert list(open_checkpoint(folder).schema) == ["linear.weight"]
        return
    with pytest.raises(UserInputError, match=r"modules\.json: (not JSON|expected a list)"):
        open_checkpoint(folder)


def test_a_pipeline_that_lacks_a_component_is_refused(tmp_path: Path) -> None:
    more = {"model_index.json": {"unet": ["diffusers", "AUNet"], "vae": ["diffusers", "AVae"]}}
    with pytest.raises(UserInputError, match=r"model_index\.json names vae, which is not there; fetch the whole"):
        open_checkpoint(write_pipeline(tmp_path / "m", **more))


@pytest.mark.parametrize("file", ["pytorch_model.bin", "diffusion_pytorch_model.bin", "tf_model.h5", "x.safetensors"])
def test_a_part_whose_weights_are_in_another_form_is_never_lost(tmp_path: Path, file: str) -> None:
    modules, pipeline = write_modules(tmp_path / "m"), write_pipeline(tmp_path / "p")
    for weights_file in (modules / DENSE, pipeline / UNET):
        weights_file.rename(weights_file.with_name(file))
        folder, place = weights_file.parents[1], weights_file.parent.name
        with pytest.raises(UserInputError, match=rf"{place}: no model\.safetensors, but {file}"):
            open_checkpoint(folder)


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model"])
def test_a_variant_is_taken_where_it_is_the_only_one(tmp_path: Path, stem: str) -> None:
    files = {"config.json": {}, f"{stem}.fp16.safetensors": weights(0)}
    folder = write_files(tmp_path / "m", files)
    assert list(open_checkpoint(folder).files) == [f"{stem}.fp16.safetensors"]
    write_file(folder / f"{stem}.bf16.safetensors", weights(1))
    with pytest.raises(UserInputError, match=rf"no {stem}\.safetensors, but several variants of it \(bf16, fp16\)"):
        open_checkpoint(folder)
    write_file(folder / f"{stem}.safetensors", weights(2))
    assert list(open_checkpoint(folder).files) == [f"{stem}.safetensors"]
    copies = (f"{stem}.bf16.safetensors", f"{stem}.fp16.safetensors")
    assert left_out(folder) == {"weights in another form": copies}


def test_of_two_names_the_one_that_its_library_loads_is_taken(tmp_path: Path) -> None:
    both = {ROOT: weights(0), "diffusion_pytorch_model.safetensors": weights(1)}
    first = write_files(tmp_path / "a", {"config.json": {"model_type": "bert"}, **both})
    second = write_files(tmp_path / "b", {"config.json": {"_class_name": "AUNet"}, **both})
    assert list(open_checkpoint(first).files) == [ROOT]
    assert list(open_checkpoint(second).files) == ["diffusion_pytorch_model.safetensors"]


def test_a_component_in_several_files_follows_its_own_index(tmp_path: Path) -> None:
    shards = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    files = {f"unet/{shard}": {name: make_model()["scale"]} for shard, name in zip(shards, "ab", strict=True)}
    folder = write_pipeline(tmp_path / "m", **files, **{INDEX_OF_UNET: index})
    (folder / UNET).unlink()
    model = open_checkpoint(folder)
    assert sorted(model.schema) == ["text_encoder/linear.weight", "unet/a", "unet/b"]
    assert INDEX_OF_UNET in model.plain
    (folder / f"unet/{shards[1]}").unlink()
    with pytest.raises(UserInputError, match=rf"unet: diffusion_\S+index.json names {shards[1]}, which is not there"):
        open_checkpoint(folder)


def test_what_a_hubs_folder_has_beside_the_weights_is_said_by_its_kind(tmp_path: Path) -> None:
    beside = {
        "weights in another form": [
            "consolidated.safetensors", "flax_model.msgpack", "model-q4.gguf", "onnx/", "openvino/", "params.json",
            "pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5",
        ],
        "training state": [
            "checkpoint-500/", "events.out.tfevents.1.host.2", "optimizer.pt", "rng_state_0.pth", "runs/",
            "scheduler.pt", "trainer_state.json", "training_args.bin",
        ],
        "documents": ["LICENSE", "NOTICE.txt", "README.md", "figure.png"],
        "code": ["convert.py", "train.ipynb"],
        "hidden": [".git/", ".gitattributes"],
        "not known to belong to a model": ["data.csv", "notes.txt", "private/"],
    }  # fmt: skip
    names = [f"{name}x.json" if name.endswith("/") else name for kind in beside.values() for name in kind]
    folder = write_files(write_model(tmp_path / "m", make_model(), num_files=2), dict.fromkeys(names, "x"))
    (folder / "outer").mkdir()
    assert left_out(folder) == {kind: tuple(kind_names) for kind, kind_names in beside.items()}
    assert all(name.startswith("model-") for name in open_checkpoint(folder).files)


def test_what_lies_in_a_modules_folder_is_said_with_it(tmp_path: Path) -> None:
    folder = write_modules(tmp_path / "m", **{"2_Dense/notes.txt": "x", "2_Dense/lexical_config.json": {}})
    assert left_out(folder) == {"not known to belong to a model": ("2_Dense/notes.txt",)}
    assert "2_Dense/lexical_config.json" in open_checkpoint(folder).plain


def test_files_that_a_tokenizer_or_processor_names_belong_to_the_model(tmp_path: Path) -> None:
    named = {
        "vocab_file": "letters.txt",
        "other_files": {"a": "sounds.json"},
        "spm_file": "../secret.txt",
        "x": "no.txt",
    }
    folder = write_files(
        write_model(tmp_path / "m", make_model()),
        {"tokenizer_config.json": named, "letters.txt": "a", "sounds.json": "{}", "no.txt": "x", "run_file.py": ""},
    )
    (tmp_path / "secret.txt").write_text("secret")
    expected = ("config.json", "letters.txt", "sounds.json", "tokenizer_config.json")
    assert open_checkpoint(folder).plain == expected
    (folder / "tokenizer_config.json").write_text("{")
    assert open_checkpoint(folder).plain == ("config.json", "tokenizer_config.json")


def test_templates_lie_a_folder_down(tmp_path: Path) -> None:
    templates = {f"additional_chat_templates/{name}": "x" for name in ("tools.jinja", "notes.txt", ".a.jinja")}
    folder = write_files(write_model(tmp_path / "m", make_model()), templates)
    assert open_checkpoint(folder).plain == ("additional_chat_templates/tools.jinja", "config.json")


def test_a_file_by_itself_is_a_model_where_one_is_asked_for(tmp_path: Path) -> None:
    write_files(tmp_path, {"sd.safetensors": weights(0), "config.json": {"tie_word_embeddings": True}})
    model = open_model(tmp_path / "sd.safetensors")
    assert (list(model.schema), model.plain, model.config) == (["linear.weight"], (), {})
    assert (
        model.digest() == open_checkpoint(write_files(tmp_path / "m", {"config.json": {}, ROOT: weights(0)})).digest()
    )
    with pytest.raises(UserInputError, match=r"but sd\.safetensors; give that file itself"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserInputError, match=r"for a checkpoint of one file give the file: \S+/sd\.safetensors"):
        open_checkpoint(tmp_path)


def test_a_kind_that_is_left_out_is_one_entry(tmp_path: Path) -> None:
    folder = write_files(write_model(tmp_path / "m", make_model()), {"README.md": "x", "LICENSE": "x"})
    said = open_checkpoint(folder).left_out("base", how="")
    assert said == (LeftOut("base", ("LICENSE", "README.md"), "documents"),)
