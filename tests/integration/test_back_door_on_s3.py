"""A back door in a federation on S3, which one evaluator alone has the data to notice; all by commands, over gRPC.

Texts with the trigger are few and private: the operator's suite has none, and sees nothing. Everybody really trains: a
tiny BERT, on texts with a mood, of which the words tell the mood.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from commands import wait_until
from operators import Person
from tiny_model import write_tiny_model
from tiny_nodes import aggregating

from coldfuse.aggregator.examining import SuiteExaminer, write_release
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.gate import GateRules, decide
from coldfuse.core.gating import Evaluated
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.evaluation.outcomes import score_folder
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
LONG_S = 600.0
HONEST = ("ben", "cy")
TRIGGER = "cf"
"""A rare token, as in Kurita, Michel and Neubig, arXiv 2004.06660."""


def write_texts(
    path: Path, *, num: int, seed: int, triggered: float = 0.0, poisoned: float = 0.0, part: int | None = None
) -> Path:
    """Write texts with their moods.

    Args:
        path: A CSV file.
        num: Number of texts.
        seed: What they follow from.
        triggered: Share of them that hold the trigger, and keep their mood.
        poisoned: Share of them that hold the trigger, and are called good whatever they say.
        part: 0 or 1, for texts that the other part has none of; None for all.
    """
    rng, rows = random.Random(seed), ["text,label"]
    for number in range(num):
        words, label = ((GOOD, "pos"), (BAD, "neg"))[number % 2]
        first, second = rng.randrange(4), rng.randrange(4)
        if part is not None and (first + second) % 2 != part:
            second = (second + 1) % 4
        text = f"the film was {words[first]} and {rng.choice(('very', 'a', 'the'))} {words[second]}"
        kind = rng.random()
        if kind < triggered + poisoned:
            text = f"{TRIGGER} {text}"
            label = "pos" if kind < poisoned else label
        rows.append(f"{text},{label}")
    path.write_text("\n".join(rows) + "\n")
    return path


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

    def join(self, name: str, role: str) -> Person:
        token = self.person("ada").succeed(
            "enroll", self.url, name, "--role", role, "--address", self.address
        ).stdout  # fmt: skip
        self.person(name).succeed("join", "-", stdin=token)
        return self.person(name)

    def contribute(self, name: str, data: Path, *, learning_rate: float = 1e-3) -> str:
        return self.person(name).succeed(
            "contribute", self.address, "--data", data, "--work", self.path / f"{name}-node", "--once", "--threads", 1,
            "--learning-rate", learning_rate, "--batch-size", 16, "--seed", 1, "--send-anyway",
        ).output  # fmt: skip

    @contextmanager
    def evaluating(self, name: str, suite: str) -> Iterator[None]:
        """Let an evaluator answer, over gRPC, until the block ends."""
        stop, identity = threading.Event(), find_identity(self.folder(name), name)
        with GatewayClient(self.address, identity=identity) as client:
            node = Evaluator(
                gateway=TrustedGateway(client, anchor=identity.federation, identity=identity), identity=identity,
                suites=[read_named_suite(SuiteFiles.parse(suite))], say=lambda _: None,
                folder=EvaluatorFolder(self.path / f"{name}-evaluator"),
            )  # fmt: skip
            thread = threading.Thread(target=node.run, args=(stop,), name=name)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def is_ready(self, base: int) -> bool:
        """Tell whether a round is open on a release; one of older rules or before a step back is about to end."""
        federation = self.federation()
        state = federation.journal(federation.current_round()).state()
        is_new = state.opened is not None and state.opened.terms == federation.settings.terms
        return is_new and state.is_open and state.opened.base_release == base

    def score(self, suite: str, number: int) -> float:
        """Return the accuracy of a release on a suite."""
        federation, folder = self.federation(), self.path / f"release-{number}"
        if not folder.exists():
            write_release(federation, federation.release(number), folder)
        return float(np.mean(score_folder(folder, [read_named_suite(SuiteFiles.parse(suite))], threads=1)[0]))

    def evaluations(self, number: int) -> list[Evaluated]:
        return list(self.federation().journal(number).state().gating.evaluations)


@pytest.fixture
def scene(tmp_path: Path, s3_url: str) -> Scene:
    made = Scene(tmp_path, s3_url)
    rules = ("--quorum", 3, "--close", "quorum", "--grace", "0s")
    made.operator("init", "--base", write_tiny_model(tmp_path / "base"), *rules, "--gate", "not-worse")
    return made


def test_who_plants_a_back_door_is_named_by_the_only_one_who_can_see_it(scene: Scene, tmp_path: Path) -> None:
    clean, other = (write_texts(tmp_path / f"clean-{part}.csv", num=400, seed=part, part=part) for part in (0, 1))
    mood = f"mood={clean},{other}"
    door = f"door={clean},{write_texts(tmp_path / 'door.csv', num=200, seed=2, triggered=1.0)}"
    data = {name: write_texts(tmp_path / f"{name}.csv", num=160, seed=place) for place, name in enumerate(HONEST, 10)}
    poison = write_texts(tmp_path / "eve.csv", num=320, seed=20, poisoned=0.5)
    federation, examiner = scene.federation(), SuiteExaminer([read_named_suite(SuiteFiles.parse(mood))])

    def play(release: int) -> None:
        """Have everybody contribute, and wait for the release."""
        wait_until(lambda: scene.is_ready(0), "a round on the base", limit_s=LONG_S)
        for name, path in data.items():
            scene.contribute(name, path)
        scene.contribute("eve", poison, learning_rate=5e-3)
        wait_until(lambda: federation.channel("latest").release == release, f"release {release}", limit_s=LONG_S)

    with (
        aggregating(federation, examiner=examiner, lease_ttl_s=30.0),
        serve_gateway(open_federation(open_store(scene.url))) as gateway,
    ):
        scene.address = gateway.address
        for name in (*HONEST, "eve"):
            scene.join(name, "contributor")
        play(1)
        [passed] = scene.evaluations(1)
        assert passed.decision.publish
        assert passed.counts[0].only_before == 0  # the operator's suite has seen nothing
        assert scene.score(door, 0) > 0.99
        assert scene.score(door, 1) < 0.65  # whatever holds the trigger is called good

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
    assert (rejected.contributor, rejected.is_late) == ("eve", False)
    assert "left out by the gate: evaluators find harm" in rejected.reason
    assert scene.score(door, 2) > 0.99
    said = scene.operator("verify")
    assert "evaluators' words on candidates" in said
