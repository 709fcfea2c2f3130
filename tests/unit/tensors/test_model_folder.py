from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_rounds import floats, make_model, write_file, write_model

from coldfuse.core.model_files import INDEX
from coldfuse.errors import CodecError, SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint


def test_the_digest_does_not_depend_on_the_files(tmp_path: Path) -> None:
    model = make_model()
    backwards = dict(reversed(model.items()))
    folders = [write_model(tmp_path / str(n), model, num_files=n) for n in (1, 2, 3)]
    folders += [write_model(tmp_path / "b1", backwards), write_model(tmp_path / "b3", backwards, num_files=3)]
    assert len({open_checkpoint(folder).digest() for folder in folders}) == 1


def test_the_digest_does_not_depend_on_how_files_are_cut(tmp_path: Path, small_parts: int) -> None:
    folders = [write_model(tmp_path / str(n), make_model(), num_files=n) for n in (1, 3)]
    assert len({open_checkpoint(folder).digest() for folder in folders}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"scale": floats(7.0)},
        {"layer.weight": floats([[0.0] * 8] * 8)},
        {"scale": floats([1.0])},
        {"more": floats(1.0)},
        {"empty": floats([])},
    ],
    ids=["value", "values", "shape", "name", "empty shape"],
)
def test_the_digest_tells_different_models_apart(tmp_path: Path, change) -> None:
    same = write_model(tmp_path / "a", make_model() | {"scale": floats(1.0)})
    other = write_model(tmp_path / "b", make_model() | {"scale": floats(1.0)} | change)
    assert open_checkpoint(same).digest() != open_checkpoint(other).digest()


def test_metadata_and_configuration_are_no_part_of_the_digest(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a", make_model()), write_model(tmp_path / "b", make_model())
    (second / "config.json").write_text('{"other": 1}')
    assert open_checkpoint(first).digest() == open_checkpoint(second).digest()


def test_configuration_and_tokenizer_travel_and_code_does_not(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", make_model())
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
    for name in (
        "vocab.txt",
        "modeling.py",
        "pytorch_model.bin",
        "1_Pooling/config.json",
        ".hidden.json",
        "merges.txt",
    ):
        (folder / name).write_text("x")
    plain = ("1_Pooling/config.json", "config.json", "merges.txt", "modules.json", "vocab.txt")
    assert open_checkpoint(folder).plain == plain


def test_what_no_model_library_writes_stays_here(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", make_model(), num_files=2)
    for private in ("data/private.json", "data/config.json", "notes.txt", "trainer_state.json", "a/vocab.txt"):
        (folder / private).parent.mkdir(exist_ok=True)
        (folder / private).write_text("private")
    known = (
        "tokenizer.json", "tokenizer_config.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model",
        "chat_template.jinja", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
        "generation_config.json", "special_tokens_map.json", "added_tokens.json", "2_Dense/config.json",
    )  # fmt: skip
    for name in known:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "modules.json").write_text('[{"path": ""}, {"path": "2_Dense"}]')
    assert open_checkpoint(folder).plain == tuple(sorted(("config.json", INDEX, *known)))


@pytest.mark.parametrize("name", ["vocab\\x.txt", "vocab\n.txt", "tokenizer\x1b.json"])
def test_names_that_other_systems_read_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "m", make_model())
    (folder / name).write_text("x")
    with pytest.raises(UserInputError, match="holds a backslash or a control character"):
        open_checkpoint(folder)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m", make_model(), num_files=3)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserInputError, match=r"names model-00002-of-00003.safetensors, which is not there"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("also", [[], ["pooler.bias"]])
def test_a_tensor_that_is_in_no_file_is_named(sharded: Path, also: list[str]) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"] |= dict.fromkeys(["pooler.weight", *also], "model-00001-of-00003.safetensors")
    (sharded / INDEX).write_text(json.dumps(index))
    more = " and 1 more" if also else ""
    with pytest.raises(UserInputError, match=rf"{INDEX} names the tensor pooler\.weight{more}, which no file has"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_files_is_named(sharded: Path) -> None:
    write_file(sharded / "model-00002-of-00003.safetensors", make_model())
    with pytest.raises(SchemaMismatchError, match=r"tensor .* is in model-00001-of-00003.safetensors and in"):
        open_checkpoint(sharded)


def test_a_torn_shard_is_refused(sharded: Path) -> None:
    shard = sharded / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CodecError, match=r"model-00002-of-00003.safetensors: the header describes"):
        open_checkpoint(sharded)


@pytest.mark.parametrize(
    "index",
    ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": []}}', '{"weight_map": {"a": 5}}',
     '{"weight_map": {"a": 5, "b": "c"}}', '{"weight_map": {"a": "../m/model-00001-of-00003.safetensors"}}',
     '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": null}}'],
)  # fmt: skip
def test_a_broken_index_is_refused_in_words(sharded: Path, index: str) -> None:
    (sharded / INDEX).write_text(index)
    with pytest.raises(UserInputError, match=r"not a safetensors index|which is not there"):
        open_checkpoint(sharded)


def test_two_models_in_one_folder_are_refused(sharded: Path) -> None:
    write_file(sharded / "model.safetensors", make_model())
    with pytest.raises(UserInputError, match="remove the one that is not meant"):
        open_checkpoint(sharded)


def test_an_index_of_one_file_is_no_second_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", make_model())
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(make_model(), "model.safetensors")}))
    assert list(open_checkpoint(folder).headers) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("missing", "says"),
    [("config.json", "has no config.json"), ("model.safetensors", "no model.safetensors; coldfuse reads safetensors")],
)
def test_an_incomplete_folder_is_refused(tmp_path: Path, missing: str, says: str) -> None:
    folder = write_model(tmp_path / "m", make_model())
    (folder / "tokenizer.json").write_text("{}")
    (folder / missing).unlink()
    with pytest.raises(UserInputError, match=says):
        open_checkpoint(folder)


def test_weights_alone_are_a_model_of_their_own_code(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", make_model())
    (folder / "config.json").unlink()
    assert open_checkpoint(folder).schema.keys() == make_model().keys()
    assert open_checkpoint(folder).config == {}


def test_a_fetch_that_was_ended_between_two_releases_leaves_no_model_of_its_own_code(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", make_model())
    (folder / "config.json").unlink()
    (folder / ".coldfuse").mkdir()
    (folder / ".coldfuse" / "written.json").write_text("[]")
    with pytest.raises(UserInputError, match="fetch again"):
        open_checkpoint(folder)
    (folder / ".coldfuse" / "release.json").write_text("{}")
    assert open_checkpoint(folder).schema


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="there is no such folder"):
        open_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize(("name", "size"), [("config.json", 1 << 25), (INDEX, 1 << 40)])
def test_files_too_large_to_be_configurations_are_refused_unread(tmp_path: Path, name: str, size: int) -> None:
    folder = write_model(tmp_path / "model", make_model(), num_files=2)
    with open(folder / name, "r+b") as file:
        file.truncate(size)
    with pytest.raises(UserInputError, match=rf"{name}: {size:,} bytes are no configuration"):
        assert open_checkpoint(folder).config
