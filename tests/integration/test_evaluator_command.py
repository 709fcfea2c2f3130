"""`coldfuse evaluator`: enrolled by a command, it answers for a candidate over the wire by a real model's probe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from operators import Person, Place
from tiny_model import write_tiny_model
from tiny_rounds import lead, make_contribution, read_release, receive

from coldfuse.core.round import Published
from coldfuse.core.serialization import encode
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.founding import AggregatorSigner
from coldfuse.trust.identity import find_identity

WORDS = "embeddings.word_embeddings.weight"
GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")


def write_reviews(path: Path) -> Path:
    pairs = [(f"the film was {one} and very {two}", label)
             for words, label in ((GOOD, "pos"), (BAD, "neg")) for one in words for two in words]  # fmt: skip
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in pairs * 4))
    return path


@dataclass
class Scene:
    """A federation on a tiny BERT, with a gateway, a contributor and two evaluators."""

    place: Place
    address: str

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.place.store)

    def federation(self) -> Federation:
        keys = self.place.person("ada").folder(self.place.fingerprint())
        return open_federation(self.store, signer=AggregatorSigner(aggregator=keys.read_key("aggregator"), model=None))

    def member(self, name: str, role: str) -> Person:
        token = self.place.person("ada").succeed("enroll", self.place.store, name, "--role", role, "--address",
                                                 self.address).stdout  # fmt: skip
        person = self.place.person(name)
        self.said = person.succeed("join", "-", stdin=token).stdout
        return person

    def contribute(self, name: str, delta: np.ndarray) -> None:
        federation = self.federation()
        manifest = make_contribution(federation, name, {WORDS: delta.astype(np.float32)})
        identity = find_identity(self.place.person(name).folder(self.place.fingerprint()), name)
        receive(federation, manifest, at_s=time.time(), signature=identity.sign(encode(manifest), "contribution"))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    place = Place(tmp_path)
    write_tiny_model(place.path / "base")
    place.init(
        "--gate",
        "not-worse",
        "--gate-to-stop",
        1,
        "--gate-resolution",
        0.2,
        "--quorum",
        1,
        "--close",
        "quorum",
        "--grace",
        "0s",
    )
    with serve_gateway(open_federation(LocalStore(place.store))) as gateway:
        yield Scene(place, gateway.address)


def test_an_evaluator_answers_for_the_candidate_and_the_round_goes_on(scene: Scene, tmp_path: Path) -> None:
    eva = scene.member("eva", "evaluator")
    assert f"next: coldfuse evaluator {scene.address} --suite" in scene.said
    scene.member("bob", "contributor")
    lead(scene.federation(), 1, now_s=time.time())
    words = read_release(scene.federation())[WORDS].floats
    scene.contribute("bob", np.random.default_rng(0).normal(size=words.shape) * 1e-4)
    lead(scene.federation(), 1, now_s=time.time())
    reviews = write_reviews(tmp_path / "reviews.csv")
    options = ("--suite", f"mood={reviews}", "--candidates", 1, "--work", tmp_path / "work")
    said = eva.succeed("evaluator", scene.address, *options).output
    assert "evaluating as eva: mood (64 examples)" in said
    assert "handed in" in said
    events = lead(scene.federation(), 1, now_s=time.time())
    assert isinstance(events[-1], Published)
    assert "text" not in str(scene.store.get(scene.store.list("scores/").keys[0]))
    verified = scene.place.person("ada").succeed("verify", scene.place.store)
    assert "evaluators' words on candidates" in verified.output


def test_who_may_not_evaluate_is_told_before_anything_is_scored(scene: Scene, tmp_path: Path) -> None:
    bob = scene.member("bob", "contributor")
    reviews = write_reviews(tmp_path / "reviews.csv")
    said = bob.fail("evaluator", scene.address, "--suite", f"mood={reviews}", "--work", tmp_path / "work")
    assert "NotAllowedError" in said
    assert "PutScore" in said
    assert "no such file" in bob.fail("evaluator", scene.address, "--suite", "mood=nowhere.csv").lower()
