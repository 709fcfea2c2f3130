"""What was trained elsewhere is contributed from its folder, by the command and from Python."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import wait_until
from own_training import aggregating, federation_of, released
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model

import coldfuse
from coldfuse.cli.contributor import contribute
from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.registry.federation import Federation
from coldfuse.transport.server import serve_gateway

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from peft import LoraConfig, get_peft_model
    from transformers import BertForSequenceClassification, BertModel

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def held(tmp_path: Path) -> Federation:
    return federation_of(tmp_path, write_tiny_model(tmp_path / "base", num_layers=1))


@pytest.fixture
def address(held: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    with aggregating(held), serve_gateway(held) as gateway:
        yield gateway.address


def tuned(folder: Path, *, step: float = 0.01, **saved: Any) -> dict[str, torch.Tensor]:
    """Fine-tune what was fetched, save it to `tuned`, and return its body."""
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=3)
    with torch.no_grad():
        for parameter in model.bert.parameters():
            parameter.add_(step)
    model.save_pretrained("tuned", **saved)
    return {name.removeprefix("bert."): tensor for name, tensor in model.state_dict().items() if "bert." in name}


def run(address: str, **options: Any) -> None:
    contribute(ContributeOptions(address=address, model=Path("tuned"), num_examples=5, name="ada", **options))


def fused(held: Federation) -> dict[str, torch.Tensor]:
    """Wait for the next release: the command ends with the verdict."""
    wait_until(lambda: held.latest().release == 1, "release 1")
    return released(held)


def test_a_model_is_contributed_on_the_release_that_is_given(
    held: Federation, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with coldfuse.connect(address) as federation:
        body = tuned(federation.fetch("fetched").path)
    with pytest.raises(coldfuse.UserInputError, match="does not say which release"):
        run(address)
    run(address, release=0, dry_run=True)
    said = capsys.readouterr().out
    assert QUERY in said
    assert "classifier" in said.partition("would leave")[0]
    assert held.journal(1).state().received == {}
    run(address, base=Path("fetched"))
    for name, tensor in fused(held).items():
        torch.testing.assert_close(tensor, body[name], rtol=0, atol=1e-6)
    assert [c.num_examples for c in held.latest().contributions] == [5]
    with pytest.raises(coldfuse.RoundClosedError, match="made from release 0, release 1 is out"):
        contribute(ContributeOptions(address=address, model=Path("tuned"), num_examples=6, name="ben", release=0))


def write_note(folder: Path) -> None:
    digest = json.loads((Path("fetched") / ".coldfuse" / "release.json").read_text())
    digest = digest.get("value", digest)["model_digest"]
    (folder / "coldfuse.json").write_text(json.dumps({"base": digest}))


def write_metadata(folder: Path) -> None:
    write_note(folder)
    digest = json.loads((folder / "coldfuse.json").read_text())["base"]
    (folder / "coldfuse.json").unlink()
    state = load_file(folder / "model.safetensors")
    save_file(state, folder / "model.safetensors", {"format": "pt", "coldfuse.base": digest})


def write_origin(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "fetched"}))


@pytest.mark.parametrize("say", [write_note, write_metadata, write_origin])
def test_the_base_is_recognised_where_the_folder_says_it(held: Federation, address: str, say: Any) -> None:
    with coldfuse.connect(address) as federation:
        tuned(federation.fetch("fetched").path)
    say(Path("tuned"))
    run(address)
    assert fused(held)


def test_an_adapter_says_what_it_was_trained_on_until_that_folder_has_another_release(
    held: Federation, address: str
) -> None:
    with coldfuse.connect(address) as federation:
        folder = federation.fetch("fetched").path
        model = get_peft_model(BertModel.from_pretrained(folder), LoraConfig(r=2, target_modules=["query"]))
        with torch.no_grad():
            model.base_model.model.encoder.layer[0].attention.self.query.lora_B["default"].weight.add_(0.1)
        model.save_pretrained("tuned")
        before = released(held, 0)
        run(address)
        now = fused(held)
        assert {name for name in now if not torch.equal(now[name], before[name])} == {QUERY}
        federation.fetch("fetched")
    with pytest.raises(coldfuse.UserInputError, match="release 1 was fetched afterwards"):
        contribute(ContributeOptions(address=address, model=Path("tuned"), num_examples=5, name="ben"))


def test_a_model_saved_over_the_release_is_held_against_that_release(held: Federation, address: str) -> None:
    with coldfuse.connect(address) as federation:
        folder = federation.fetch("fetched").path
        model = BertModel.from_pretrained(folder)
        with torch.no_grad():
            model.encoder.layer[0].attention.self.query.weight.add_(0.1)
        model.save_pretrained(folder)
        sent = federation.contribute("fetched", num_examples=3, name="ada", share="encoder.*")
    assert sent.is_admitted
    assert "embeddings.word_embeddings.weight" in sent.left_out
    now, before = fused(held), released(held, 0)
    assert {name for name in now if not torch.equal(now[name], before[name])} == {QUERY}


def test_a_model_in_memory_names_the_folder_that_it_was_loaded_from(held: Federation, address: str) -> None:
    coldfuse.fetch(address, "fetched")
    model = BertModel.from_pretrained("fetched")
    with torch.no_grad():
        model.encoder.layer[0].attention.self.query.weight.add_(0.1)
    with coldfuse.connect(address) as federation:
        assert federation.contribute(model, num_examples=3, name="ada").is_admitted
    with (
        coldfuse.connect(address) as federation,
        pytest.raises(coldfuse.UserInputError, match="does not say which release"),
    ):
        federation.contribute(dict(model.state_dict()), num_examples=3, name="ada")


def test_a_killed_upload_goes_on_with_the_delta_that_is_there(
    held: Federation, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldfuse.contributor.sender import Sender

    with coldfuse.connect(address) as federation:
        tuned(federation.fetch("fetched").path)

    def killed(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sender, "deliver", killed)
        with pytest.raises(KeyboardInterrupt):
            run(address, release=0)
    [delta] = Path(".coldfuse/ada").glob("release-*/delta.safetensors")
    written = delta.stat().st_mtime_ns
    run(address, release=0)
    assert delta.stat().st_mtime_ns == written
    assert fused(held)
