"""What a node makes of work whose base is the latest release no more: sent under the rules, or dropped and said."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from coldfuse.contributor.events import NodeEvent
from coldfuse.contributor.node import Node, NodeSettings
from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest, Score
from coldfuse.core.federation import RoundRules
from coldfuse.core.serialization import sha256
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import RoundClosedError
from coldfuse.gateway import ContributionVerdict, Decision, ReleaseName, RoundStatus, Status
from coldfuse.training.job import TrainingSettings

FEDERATION = sha256(b"federation")
DATA = TextDataset(texts=("a", "b"), labels=(0, 1), label_names=("x", "y"))
BLOB = Blob(parts=(Part(digest=sha256(b"delta"), size_bytes=5),))
REBASE = RoundRules(late="rebase", staleness="polynomial", max_staleness=3)


def digest_of(release: int) -> str:
    return sha256(f"release {release}".encode())


class Federation:
    """A gateway of a federation that moves on when its tests say so, and with every contribution that it admits."""

    def __init__(self, rules: RoundRules, latest: int = 0, *, verdicts: tuple[str, ...] = ()) -> None:
        self.rules, self.latest, self.verdicts = rules, latest, list(verdicts)
        self.moves_on_verdict = 1
        self.committed: list[ContributionManifest] = []
        self.refuses: str | None = None

    def status(self) -> Status:
        name = ReleaseName(number=self.latest, model_digest=digest_of(self.latest), manifest_digest=FEDERATION)
        now = RoundStatus(
            number=self.latest + 1, is_open=True, num_received=0, num_admitted=0, num_rejected=0, contributors=(),
            waits_for="more",
        )  # fmt: skip
        return Status(
            protocol_version=1, layout_version=1, federation=FEDERATION, name="f", method="mean", rules=self.rules,
            max_contribution_bytes=1, latest=name, round=now, poll_after_s=0.0,
        )  # fmt: skip

    def release(self, which: int) -> SimpleNamespace:
        return SimpleNamespace(model_digest=digest_of(which))

    def upload(self, blob: Blob, read: object, *, progress: object) -> None:
        assert blob == BLOB

    def commit(self, manifest: ContributionManifest) -> None:
        self.committed.append(manifest)
        if self.refuses:
            raise RoundClosedError(self.refuses)

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        answer = self.verdicts.pop(0) if self.verdicts else "admitted"
        self.latest += self.moves_on_verdict
        decision = {"pending": Decision.PENDING, "admitted": Decision.ADMITTED}.get(answer, Decision.REJECTED)
        return ContributionVerdict(contribution=contribution, decision=decision, reason="why", is_late=answer == "late")


class TrainedNode(Node):
    """A node that trains in no time, and remembers on which releases."""

    trained: list[int]
    moves: list[int]
    """The latest release at the end of each training; where none is left, it is still the base."""

    def prepare(self) -> tuple[WorkFolder, Trained]:
        base = self.client.latest  # type: ignore[attr-defined]
        work, trained = self.folder.work_on(base), trained_on(base, self)
        work.delta.write_bytes(b"delta")
        work.save_trained(trained)
        self.trained.append(base)
        self.client.latest = self.moves.pop(0) if self.moves else base  # type: ignore[attr-defined]
        return work, trained


def trained_on(base: int, node: Node) -> Trained:
    return Trained(
        base_release=base, base_digest=digest_of(base), work_digest=node.settings.work_digest(), num_examples=2,
        num_steps=1, score=Score(before=0.0, after=1.0), encoding="F32", delta=BLOB,
    )  # fmt: skip


def node_of(federation: Federation, folder: Path, *moves: int) -> tuple[TrainedNode, list[NodeEvent]]:
    events: list[NodeEvent] = []
    settings = NodeSettings(name="ada", train=DATA, validation=DATA, training=TrainingSettings())
    node = TrainedNode(settings, NodeFolder(folder), federation, events.append, threading.Event())  # type: ignore[arg-type]
    object.__setattr__(node, "trained", [])
    object.__setattr__(node, "moves", list(moves))
    return node, events


def finished(node: TrainedNode, base: int) -> WorkFolder:
    """Leave what a node leaves that was killed once its training was done."""
    work = node.folder.work_on(base)
    work.delta.write_bytes(b"delta")
    work.save_trained(trained_on(base, node))
    return work


def said(events: list[NodeEvent], phase: str) -> list[str]:
    return [event.message for event in events if event.phase == phase]


def test_what_became_late_while_it_was_trained_is_sent_with_its_own_base(tmp_path: Path) -> None:
    federation = Federation(REBASE)
    node, events = node_of(federation, tmp_path, 1)
    node.contribute()
    assert [(m.round, m.base_release, m.base_digest) for m in federation.committed] == [(2, 0, digest_of(0))]
    assert node.trained == [0]
    assert said(events, "committed")[0].endswith("; made on release 0, it counts ×0.707107 on 1")
    assert said(events, "late") == []


def test_what_the_rules_do_not_take_is_dropped_and_said_once(tmp_path: Path) -> None:
    federation = Federation(RoundRules())
    node, events = node_of(federation, tmp_path, 1)
    node.contribute()
    assert node.trained == [0, 1]
    assert [m.base_release for m in federation.committed] == [1]
    why = "release 1 is out, and what was trained on an older release is not taken"
    assert said(events, "late") == [f"what was trained on release 0 is dropped: {why}"]


def test_what_was_trained_before_a_kill_is_sent_and_not_trained_again(tmp_path: Path) -> None:
    federation = Federation(REBASE, 2)
    node, _ = node_of(federation, tmp_path)
    finished(node, 1)
    node.contribute()
    assert node.trained == []
    assert [(m.round, m.base_release) for m in federation.committed] == [(3, 1)]


@pytest.mark.parametrize(("base", "is_dropped"), [(0, True), (1, False), (3, False)])
def test_what_is_too_old_after_a_kill_is_dropped_and_said(tmp_path: Path, base: int, is_dropped: bool) -> None:
    federation = Federation(REBASE, 4)
    node, events = node_of(federation, tmp_path)
    work = finished(node, base)
    node.contribute()
    assert node.trained == [4] * is_dropped
    assert len(said(events, "late")) == is_dropped
    assert work.kept(work_digest=node.settings.work_digest()) is None  # it has come to an end, either way


def test_what_was_sent_before_a_kill_is_asked_for_whatever_the_rules(tmp_path: Path) -> None:
    federation = Federation(RoundRules(), 1)
    node, events = node_of(federation, tmp_path)
    sent = Sent(federation=FEDERATION, round=1, contribution=sha256(b"x"), after_release=0, is_done=False)
    finished(node, 0).save_sent(sent)
    assert node.contribute() == 0
    assert (node.trained, federation.committed) == ([], [])
    assert said(events, "released") == ["release 1 is out"]


def test_what_an_older_version_sent_has_come_to_an_end(tmp_path: Path) -> None:
    federation = Federation(REBASE, 1)
    node, _ = node_of(federation, tmp_path)
    finished(node, 0).save_sent(Sent(federation=FEDERATION, round=1, contribution=sha256(b"x")))
    node.contribute()
    assert node.trained == [1]


@pytest.mark.parametrize("verdicts", [("late",), ("pending", "late")])
def test_a_late_verdict_sends_it_to_the_next_round(tmp_path: Path, verdicts: tuple[str, ...]) -> None:
    federation = Federation(
        REBASE, verdicts=verdicts
    )  # with every verdict a release comes out: without one it is no end
    node, events = node_of(federation, tmp_path)
    node.contribute()
    age = len(verdicts)
    assert [(m.round, m.base_release) for m in federation.committed] == [(1, 0), (1 + age, 0)]
    assert said(events, "late") == ["why"]
    assert node.trained == [0]


def test_what_a_round_does_not_know_is_dropped_and_not_sent_for_ever(tmp_path: Path) -> None:
    federation = Federation(REBASE, 2)
    node, events = node_of(federation, tmp_path)
    finished(node, 1)
    federation.refuses = "no such base"

    def take_what_is_fresh(event: NodeEvent) -> None:
        events.append(event)
        federation.refuses = None if "dropped" in event.message else federation.refuses

    object.__setattr__(node, "report", take_what_is_fresh)
    node.contribute()
    assert [m.base_release for m in federation.committed] == [1, 2]
    assert said(events, "late")[0] == "no such base"


def test_work_on_another_federation_s_release_is_left_alone(tmp_path: Path) -> None:
    federation = Federation(REBASE, 2)
    node, _ = node_of(federation, tmp_path)
    work = finished(node, 1)
    work.save_trained(trained_on(1, node).model_copy(update={"base_digest": FEDERATION}))
    node.contribute()
    assert node.trained == [2]


def test_a_status_from_before_the_refusal_drops_nothing(tmp_path: Path) -> None:
    federation = Federation(REBASE, 2)
    node, events = node_of(federation, tmp_path)
    finished(node, 1)
    federation.refuses = "round 3 is over"

    class Pause(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:  # meanwhile the gateway looks at its store again
            federation.latest, federation.refuses = max(federation.latest, 3), None
            return super().wait(timeout)

    object.__setattr__(node, "stop", Pause())
    node.contribute()
    assert [(m.round, m.base_release) for m in federation.committed] == [(3, 1), (4, 1)]
    assert said(events, "late") == ["round 3 is over"]
    assert node.trained == []
