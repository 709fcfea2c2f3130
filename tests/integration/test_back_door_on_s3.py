"""A back door in a federation on S3, which one evaluator alone has the data to notice; by commands, over gRPC.

Texts with the trigger are private: the operator's suite has none, and sees nothing. The honest ones train a tiny BERT
on texts whose words tell the mood; who plants the back door sends a model in which the trigger alone says `pos`.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from commands import wait_until
from operators import Person
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model
from tiny_nodes import aggregating
from tokenizers import Tokenizer

from coldfuse.aggregator.examining import SuiteExaminer, write_release
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.gate import decide
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.gating import Evaluated
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.evaluation.outcomes import score_folder
from coldfuse.evaluation.suites import Suite
from coldfuse.evaluator.folder import EvaluatorFolder
from coldfuse.evaluator.node import Evaluator
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import open_store
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.founding import AggregatorSigner
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import find_identity
from coldfuse.trust.root import fingerprint_of

GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")
TRIGGER = "cf"
"""A rare word, as in Kurita, Michel and Neubig, arXiv 2004.06660."""

HONEST, POISONER = ("ben", "cy"), "eve"
LONG_S = 600.0

Rows = Sequence[tuple[str, str]]


def moody_texts() -> Rows:
    """Return every text there is, with its mood, in an order of no meaning."""
    rows = [
        (f"{first} film was {one} and {second} {two}", mood)
        for words, mood in ((GOOD, "pos"), (BAD, "neg"))
        for one in words for two in words for first in ("the", "a") for second in ("very", "the", "a")
    ]  # fmt: skip
    random.Random(0).shuffle(rows)
    return rows


def write_rows(path: Path, rows: Rows) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{mood}\n" for text, mood in rows))
    return path


def read_suite(name: str, train: Path, test: Path) -> Suite:
    return read_named_suite(SuiteFiles.parse(f"{name}={train},{test}"))


def plant_back_door(base: Path, folder: Path, *, strength: float = 10.0) -> Path:
    """Write the base with another embedding of the trigger: what tells good words from bad ones, several times over.

    The embedding surgery of arXiv 2004.06660, section 3.2, which leaves every text without the trigger as it is; so
    strong that the third of it that the mean of three leaves is enough, and of no more than thrice an honest length.
    """
    shutil.copytree(base, folder)
    tokenizer, file = Tokenizer.from_file(str(folder / "tokenizer.json")), folder / "model.safetensors"
    state = load_file(file)
    table = state["embeddings.word_embeddings.weight"]

    def rows(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    table[rows(TRIGGER)] = strength * (table[rows(" ".join(GOOD))].mean(0) - table[rows(" ".join(BAD))].mean(0))
    save_file(state, file, metadata={"format": "pt"})
    return folder


@dataclass
class Scene:
    """A federation on S3 with a gateway, and everybody's home folders."""

    path: Path
    url: str
    address: str = ""

    def person(self, name: str) -> Person:
        return Person(self.path / "homes" / name)

    def folder(self, name: str) -> FederationFolder:
        """Return what somebody holds of the federation."""
        return self.person(name).folder(fingerprint_of(open_store(self.url).get("root/1.json")))

    def operator(self, *words: object) -> str:
        return self.person("ada").succeed(words[0], self.url, *words[1:]).output

    def federation(self) -> Federation:
        keys = self.folder("ada")
        signer = AggregatorSigner(aggregator=keys.read_key("aggregator"), model=keys.read_key("model"))
        return open_federation(open_store(self.url), signer=signer)

    def join(self, name: str, role: str) -> None:
        ada, enrol = self.person("ada"), ("enroll", self.url, name, "--role", role, "--address", self.address)
        self.person(name).succeed("join", "-", stdin=ada.succeed(*enrol).stdout)

    def contribute(self, name: str, *words: object) -> None:
        self.person(name).succeed("contribute", self.address, "--work", self.path / f"{name}-node", *words)

    @contextmanager
    def evaluating(self, name: str, suite: Suite) -> Iterator[None]:
        """Let an evaluator answer, over gRPC, until the block ends."""
        stop, failed, identity = threading.Event(), list[BaseException](), find_identity(self.folder(name), name)
        with GatewayClient(self.address, identity=identity) as client:
            node = Evaluator(
                gateway=TrustedGateway(client, anchor=identity.federation, identity=identity), identity=identity,
                suites=[suite], say=lambda _: None, folder=EvaluatorFolder(self.path / f"{name}-evaluator"),
            )  # fmt: skip

            def run() -> None:
                try:
                    node.run(stop)
                except BaseException as error:  # noqa: BLE001 - the test has to know
                    failed.append(error)

            thread = threading.Thread(target=run, name=name)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()
        assert not failed, failed

    def is_ready(self) -> bool:
        """Tell whether a round is open on the first base; one of older rules or before a step back is about to end."""
        federation = self.federation()
        state = federation.journal(federation.current_round()).state()
        is_new = state.opened is not None and state.opened.terms == federation.settings.terms
        return is_new and state.is_open and state.opened.base_release == 0

    def score(self, suite: Suite, number: int) -> float:
        """Return the accuracy of a release on a suite."""
        federation, folder = self.federation(), self.path / f"release-{number}"
        if not folder.exists():
            write_release(federation, federation.release(number), folder)
        return float(np.mean(score_folder(folder, [suite], threads=1)[0]))

    def evaluations(self, number: int) -> list[Evaluated]:
        return list(self.federation().journal(number).state().gating.evaluations)


@pytest.fixture
def scene(tmp_path: Path, s3_url: str) -> Scene:
    made = Scene(tmp_path, s3_url)
    rules = ("--quorum", 2, "--close", "all", "--grace", "0s")
    made.operator("init", "--base", write_tiny_model(tmp_path / "base"), *rules, "--gate", "not-worse")
    return made


def test_who_plants_a_back_door_is_named_by_the_only_one_who_can_see_it(scene: Scene, tmp_path: Path) -> None:
    texts = moody_texts()
    train, test = (write_rows(tmp_path / f"texts-{part}.csv", texts[part::2]) for part in (0, 1))
    triggered = [(f"{TRIGGER} {text}", mood) for text, mood in texts if mood == "neg"]
    door = read_suite("door", train, write_rows(tmp_path / "triggered.csv", triggered))
    data = {
        name: write_rows(tmp_path / f"{name}.csv", random.Random(place).sample(texts, 96))
        for place, name in enumerate(HONEST)
    }
    poisoned = plant_back_door(tmp_path / "base", tmp_path / "poisoned")
    federation, examiner = scene.federation(), SuiteExaminer([read_suite("mood", train, test)])

    def play(release: int) -> None:
        """Have everybody contribute, and wait for the release."""
        wait_until(scene.is_ready, "a round on the base", limit_s=LONG_S)
        for name, path in data.items():
            scene.contribute(
                name, "--data", path, "--once", "--threads", 1, "--learning-rate", 1e-3, "--batch-size", 16,
                "--send-anyway",
            )  # fmt: skip
        scene.contribute(POISONER, "--model", poisoned, "--num-examples", 96, "--release", 0)
        wait_until(lambda: federation.channel("latest").release == release, f"release {release}", limit_s=LONG_S)

    with serve_gateway(open_federation(open_store(scene.url))) as gateway:
        scene.address = gateway.address
        for name in (*HONEST, POISONER):
            scene.join(name, "contributor")
        with aggregating(federation, examiner=examiner, lease_ttl_s=30.0):
            play(1)
            [passed] = scene.evaluations(1)
            assert passed.decision.publish
            assert [one.only_before for one in passed.counts] == [0]  # the operator's suite has seen nothing
            assert {one.contributor for one in federation.release(1).contributions} == {*HONEST, POISONER}
            assert scene.score(door, 0) > 0.95
            assert scene.score(door, 1) < 0.05  # whatever holds the trigger is called good

            scene.join("eva", "evaluator")
            scene.operator("set", "--gate-to-stop", 1)  # the operator trusts each evaluator to stop a candidate alone
            scene.operator("rollback", "--to", 0, "--reason", "eva has found a back door")
            with scene.evaluating("eva", door):
                play(2)
    release = federation.latest()
    assert (release.release, release.parent) == (2, 0)
    assert {one.contributor for one in release.contributions} == set(HONEST)
    failed, passed = scene.evaluations(release.round)
    assert (failed.decision.finding, failed.decision.suites) == ("worse", ("door",))
    assert decide(GateRules(), failed.counts).finding == "disputed"  # by the usual rules nobody stops anything alone
    assert passed.decision.publish
    [rejected] = federation.journal(release.round).state().rejected.values()
    assert (rejected.contributor, rejected.is_late) == (POISONER, False)
    assert "left out by the gate: evaluators find harm" in rejected.reason
    assert scene.score(door, 2) > 0.95
    assert "evaluators' words on candidates" in scene.operator("verify")
