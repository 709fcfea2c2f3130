"""What `init` says of a base before it makes a federation of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from integration.training_process import SETTINGS, job
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model
from typer.testing import CliRunner

from coldfuse import extras
from coldfuse.cli.main import app
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.training.check import BaseCheck, check_base
from coldfuse.training.encoding import tokenize
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def base(good: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(good, tmp_path / "base")


def set_config(base: Path, **changes: object) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_weights(base: Path, **changes: torch.Tensor | None) -> None:
    path = base / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(path).items() if changes.get(name, tensor) is not None}
    save_file(weights | {name: t for name, t in changes.items() if t is not None}, path, metadata={"format": "pt"})


def add_tokens(base: Path, *tokens: str) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(list(tokens))
    tokenizer.save_pretrained(base)


def test_a_good_base_is_tried_and_said_to_work(good: Path) -> None:
    assert check_base(good) == BaseCheck(
        finding="BertModel reads texts of up to 64 tokens; trained on two texts, it works"
    )


def test_a_check_changes_nothing(good: Path) -> None:
    torch.manual_seed(1)
    state, files = torch.random.get_rng_state(), {path: path.read_bytes() for path in good.iterdir()}
    check_base(good)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {path: path.read_bytes() for path in good.iterdir()} == files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "the model is quantised (gptq)"),
        ({"model_type": "mine", "auto_map": {"AutoModel": "code.Mine"}}, "needs code of its own (auto_map in its"),
        ({"model_type": "mine"}, "expected a Hugging Face model folder"),
        ({"max_position_embeddings": 3}, "config.json, model*.safetensors and a tokenizer"),
        ({"hidden_size": "big"}, "expected a Hugging Face model folder"),
        ({"num_attention_heads": 5}, "expected a Hugging Face model folder"),
    ],
)
def test_a_configuration_that_cannot_be_is_an_obstacle(base: Path, changes: dict[str, object], said: str) -> None:
    set_config(base, **changes)
    obstacle = check_base(base).obstacle
    assert obstacle is not None
    assert said in obstacle
    assert "\n" not in obstacle
    with pytest.raises(UserInputError):
        fine_tune(job(base), SETTINGS)


def test_weights_that_overflowed_are_named(base: Path) -> None:
    name = "encoder.layer.1.output.dense.weight"
    broken = load_file(base / "model.safetensors")[name].clone()
    broken[0, 0] = float("inf")
    set_weights(base, **{name: broken})
    obstacle = check_base(base).obstacle
    assert obstacle is not None
    assert obstacle.startswith(f"BertModel gives features that are not finite: {name} ")


def test_layers_that_the_files_lack_are_said(base: Path) -> None:
    set_weights(base, **{"encoder.layer.1.output.dense.weight": None, "pooler.dense.weight": None})
    (remark,) = check_base(base).remarks
    assert remark.startswith("the base's files lack encoder.layer.1.output.dense.weight: every contributor trains")


def test_a_tokenizer_larger_than_the_embedding_is_said_and_its_tokens_are_refused(base: Path) -> None:
    add_tokens(base, "<new>", "<newer>")
    (remark,) = check_base(base).remarks
    assert "the tokenizer has 123 tokens and the model's embedding 121 rows" in remark
    fine_tune(job(base), SETTINGS)  # no text has one of them
    whole = job(base)
    texts = ("a <newer> film", *whole.train.texts[1:])
    spoilt = TextDataset(texts=texts, labels=whole.train.labels, label_names=whole.train.label_names)
    with pytest.raises(UserInputError, match=r"1 of 64 texts have tokens that the model does not know, .*'<newer>'"):
        fine_tune(type(whole)(**{**vars(whole), "train": spoilt}), SETTINGS)


def test_a_padding_token_that_the_model_was_not_told_of_is_no_obstacle(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(base)
    assert load_tokenizer(base).pad_token_id == 121
    assert check_base(base).obstacle is None


def test_types_that_the_body_does_not_know_are_left_out(base: Path) -> None:
    pairs = TextDataset(texts=("good",), text_pairs=("bad",), labels=(0,), label_names=("one",))

    def types(base: Path) -> object:
        body, tokenizer = load_body(base), load_tokenizer(base)
        return tokenize(tokenizer, pairs, find_intake(body, tokenizer, max_length=16)).token_type_ids

    assert types(base) == [[0, 0, 0, 1, 1]]
    rows = load_file(base / "model.safetensors")["embeddings.token_type_embeddings.weight"]
    set_weights(base, **{"embeddings.token_type_embeddings.weight": rows[:1].clone()})
    set_config(base, type_vocab_size=1)
    assert types(base) is None
    assert check_base(base).remarks == ()


def test_a_large_base_is_only_looked_at(base: Path) -> None:
    set_weights(base, **{"embeddings.word_embeddings.weight": torch.full((121, 32), float("nan"))})
    found = check_base(base, max_tried_bytes=1000)
    assert found.obstacle is None
    assert found.finding == "BertModel reads texts of up to 64 tokens; with 0.0 GiB in float32 it was not tried"


def init(base: Path) -> tuple[str, str]:
    store = base.parent / "store"
    result = CliRunner().invoke(app, ["init", str(store), "--base", str(base)], catch_exceptions=False)
    assert result.exit_code == 0
    assert (store / "federation.json").exists()
    return result.stdout, result.stderr


def test_init_says_before_it_creates_anything_what_nobody_can_train(base: Path) -> None:
    set_config(base, quantization_config={"quant_method": "awq"})
    out, err = init(base)
    assert err.startswith("coldfuse: nobody can train this base with `coldfuse contribute`: ")
    assert "the model is quantised (awq)" in err
    assert err.endswith("can be contributed from Python (Federation.contribute)\n")
    assert out.startswith("created ")


def test_init_says_that_it_tried(base: Path) -> None:
    out, err = init(base)
    assert out.startswith("base: BertModel reads texts of up to 64 tokens; trained on two texts, it works\ncreated ")
    assert err == ""


def test_init_where_nothing_can_be_trained_says_what_to_install(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda library: library != "torch")
    out, err = init(base)
    assert "not tried whether contributors can train it" in err
    assert "torch, which is not installed: pip install 'coldfuse[contributor]'" in err
    assert out.startswith("created ")
