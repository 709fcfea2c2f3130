import re
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from coldfuse.core.model_files import is_tokenizer_file
from coldfuse.errors import UserInputError
from coldfuse.training.loading import load_body, load_tokenizer


def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path):
    for load in (load_body, load_tokenizer):
        with pytest.raises(UserInputError, match="expected a Hugging Face model folder") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "left"),
    [
        ("bert", []),
        ("bert", ["tokenizer_config.json"]),
        ("roberta", ["special_tokens_map.json", "added_tokens.json"]),
        ("t5", []),
    ],
)
def test_a_model_saved_without_its_tokenizer_is_refused(tmp_path: Path, model_type: str, left: list[str]) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    for name in left:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserInputError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: no tokenizer in it; expected tokenizer.json, ")
    assert f'tokenizer.save_pretrained("{tmp_path}")' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ByT5Tokenizer", "CanineTokenizer"])
def test_tokenizers_of_bytes_and_characters_need_no_vocabulary(tmp_path: Path, name: str) -> None:
    import transformers

    getattr(transformers, name)().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"model_type": "t5"}' if name.startswith("ByT5") else '{"model_type": "canine"}'
    )
    tokens = load_tokenizer(tmp_path)("good").input_ids
    assert len(set(tokens)) > 3


def test_a_vocabulary_of_any_of_the_class_names_is_enough(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    vocabulary = load_tokenizer(model).get_vocab()
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (model / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    tokenizer = load_tokenizer(model)
    assert tokenizer.unk_token_id not in tokenizer("a good film").input_ids


def test_every_vocabulary_that_transformers_knows_is_published() -> None:
    import transformers

    sources = [path.read_text() for path in Path(transformers.__file__).parent.glob("models/*/tokenization_*.py")]
    tables = [found for source in sources for found in re.findall(r"VOCAB_FILES_NAMES = \{(.*?)\}", source, re.S)]
    names = {name for table in tables for name in re.findall(r': "([^"]+)"', table)}
    assert len(names) > 20
    assert [name for name in sorted(names) if not is_tokenizer_file(name)] == []


def test_what_is_no_encoder_or_no_known_model_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config, T5Model

    sizes = {"vocab_size": 10, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5Model(T5Config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(UserInputError, match="T5Model is an encoder-decoder; expected an encoder such as BERT"):
        load_body(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "never heard of"}')
    with pytest.raises(UserInputError, match=r"expected a Hugging Face model folder .* `never heard of"):
        load_body(tmp_path)
