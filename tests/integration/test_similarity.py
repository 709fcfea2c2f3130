"""`coldfuse.similarity` and `coldfuse similarity` on tiny models of several shapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from bodies import write_architecture
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model
from typer.testing import CliRunner

import coldfuse
from coldfuse.cli.main import app
from coldfuse.errors import SchemaMismatchError, UserInputError

TEXTS = tuple(f"{first} {second} {third}" for first in ("good", "bad", "the", "dull", "fine")
              for second in ("film", "was", "very", "a") for third in ("and", "great", "poor"))  # fmt: skip


def command(*words: object) -> str:
    """Run the command in this process, where its libraries are loaded, and return its standard output."""
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def changed(base: Path, folder: Path, *, seed: int, scale: float = 0.02) -> Path:
    shutil.copytree(base, folder)
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: values + scale * torch.randn(values.shape, generator=random)
        for name, values in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    base = write_tiny_model(place / "base")
    return {
        "base": base,
        "alice": changed(base, place / "alice", seed=1),
        "bob": changed(base, place / "bob", seed=2),
        "deep": write_tiny_model(place / "deep", seed=3, hidden_size=16, num_layers=4),
    }


def test_contributions_are_compared_by_task_vectors_and_texts(folders: dict[str, Path], tmp_path: Path) -> None:
    base, alice = folders["base"], folders["alice"]
    half = coldfuse.fuse(base, [alice], method="task-arithmetic(scale=0.5)", out=tmp_path / "half")
    found = coldfuse.similarity([alice, half.path, folders["bob"]], base=base, texts=TEXTS)
    same, other, _ = found.weights
    assert (same.overall.cosine, same.overall.sign_agreement) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert same.overall.norms[1] == pytest.approx(same.overall.norms[0] / 2, rel=1e-3)
    assert abs(other.overall.cosine or 1) < 0.1
    assert list(same.layers) == ["embeddings", "encoder.layer.0", "encoder.layer.1", "in no layer"]
    assert sum(each.norms[0] ** 2 for each in same.tensors.values()) == pytest.approx(same.overall.norms[0] ** 2)
    nearer, farther, _ = found.representations
    for layer, far in zip(nearer.layers, farther.layers, strict=True):
        assert layer.cka is not None
        assert far.cka is not None
        assert layer.cka > far.cka
        assert (layer.procrustes or 0) < (far.procrustes or 0)


def test_a_model_is_the_same_as_its_copy(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders["base"], tmp_path / "copy")
    found = coldfuse.similarity([folders["base"], copy], texts=TEXTS)
    assert found.base is None
    assert (found.weights[0].overall.cosine, found.weights[0].overall.distance) == pytest.approx((1.0, 0.0), abs=1e-6)
    for layer in found.representations[0].layers:
        assert (layer.cka, layer.procrustes) == pytest.approx((1.0, 0.0), abs=1e-9)


def test_other_shapes_are_compared_by_texts_alone(folders: dict[str, Path]) -> None:
    found = coldfuse.similarity([folders["base"], folders["deep"]], texts=TEXTS)
    assert found.weights == ()
    assert "weights are not compared" in found.notes[0]
    [pair] = found.representations
    assert [(layer.one, layer.other) for layer in pair.layers] == [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4)]
    assert (len(pair.cka), len(pair.cka[0])) == (3, 5)
    with pytest.raises(SchemaMismatchError):
        coldfuse.similarity([folders["base"], folders["deep"]])


def test_a_model_of_another_architecture_is_not_taken_for_the_base(folders: dict[str, Path], tmp_path: Path) -> None:
    llama = write_architecture(tmp_path / "llama", "Llama")
    for base in (None, folders["base"]):
        with pytest.raises(SchemaMismatchError, match=r"none of its tensors .*--data FILE"):
            coldfuse.similarity([folders["base"], llama], base=base)
    found = coldfuse.similarity([folders["base"], llama], texts=TEXTS[:8])
    assert (found.weights, len(found.representations)) == ((), 1)


def test_deltas_are_compared_on_their_base(folders: dict[str, Path], tmp_path: Path) -> None:
    base = folders["base"]
    deltas = [
        coldfuse.fuse(base, [folders[name]], out=tmp_path / f"{name}.safetensors", kind="delta").path
        for name in ("alice", "bob")
    ]
    found = coldfuse.similarity(deltas, base=base, texts=TEXTS[:8])
    whole = coldfuse.similarity([folders["alice"], folders["bob"]], base=base, texts=TEXTS[:8])
    assert found.weights[0].overall.cosine == pytest.approx(whole.weights[0].overall.cosine, abs=1e-6)
    assert found.representations[0].layers[-1].cka == pytest.approx(whole.representations[0].layers[-1].cka, abs=1e-4)
    with pytest.raises(UserInputError, match="--base"):
        coldfuse.similarity(deltas)


@pytest.mark.filterwarnings("ignore")  # PEFT's own, of transformers' names
def test_an_adapter_is_compared_by_what_it_changes(folders: dict[str, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(0)
    model = get_peft_model(AutoModel.from_pretrained(folders["base"]), LoraConfig(r=2, target_modules=["query"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "adapter")
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    found = coldfuse.similarity([tmp_path / "adapter", tmp_path / "merged"], base=folders["base"])
    assert found.weights[0].overall.cosine == pytest.approx(1.0, abs=1e-4)


def test_the_command_shows_layers_and_draws_them(folders: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    text = command(
        "similarity", folders["alice"], folders["bob"], "--base", folders["base"], "--data", tmp_path / "texts.jsonl",
        "--plot", tmp_path / "alike.png", "--tensors",
    )  # fmt: skip
    for word in (
        "task vectors, on",
        "same sign",
        "encoder.layer.1",
        "encoder.layer.0.output.dense.weight",
        "procrustes",
    ):
        assert word in text, word
    assert (tmp_path / "alike.png").read_bytes()[:4] == b"\x89PNG"


def test_json_is_the_same_as_from_python(folders: dict[str, Path]) -> None:
    said = command("similarity", folders["alice"], folders["bob"], "--json")
    assert json.loads(said) == json.loads(coldfuse.similarity([folders["alice"], folders["bob"]]).model_dump_json())


@pytest.mark.parametrize(
    ("texts", "names", "word"),
    [
        (("a", "b", "c"), ("alice", "bob"), "expected 4 or more"),
        (None, ("alice",), "expected 2 or more"),
        (None, ("alice", "alice"), "named twice"),
    ],
)
def test_too_little_to_compare_is_refused(
    folders: dict[str, Path], texts: tuple[str, ...] | None, names: tuple[str, ...], word: str
) -> None:
    with pytest.raises(UserInputError, match=word):
        coldfuse.similarity([folders[name] for name in names], texts=texts)
