"""What a node makes of the gateway's answers; training and transfers have tests of their own."""

import dataclasses
import threading
from pathlib import Path

import pytest

from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest, Score
from coldfuse.core.federation import RoundRules
from coldfuse.core.serialization import encode, sha256
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import ContributionRejectedError, ObjectNotFoundError, RoundClosedError
from coldfuse.gateway import ContributionVerdict, Decision, ReleaseName, RoundStatus, Status
from coldfuse.training.job import TrainingSettings

FEDERATION, OTHER = sha256(b"federation"), sha256(b"other")
DATA = TextDataset(texts=("a", "b"), labels=(0, 1), label_names=("x", "y"))
BLOB = Blob(parts=(Part(digest=sha256(b"delta"), size_bytes=5),))
PENDING = (Decision.PENDING, False)
ADMITTED = (Decision.ADMITTED, False)
REJECTED = (Decision.REJECTED, False)
LATE = (Decision.REJECTED, True)
DAMAGED = (Decision.PENDING, None)


class FakeGateway:
    """Answers from a script; publishes the next release when it has admitted a contribution."""

    def __init__(self, *answers: tuple[Decision, bool] | None, closed: int = 0) -> None:
        self.answers, self.closed, self.round, self.release = list(answers), closed, 1, 0
        self.committed: list[ContributionManifest] = []
        self.looks_until_release = 0
        self.num_uploads = 0

    def status(self) -> Status:
        if self.looks_until_release:
            self.looks_until_release -= 1
            self.release += not self.looks_until_release
        name = ReleaseName(number=self.release, model_digest=FEDERATION, manifest_digest=FEDERATION)
        round_status = RoundStatus(
            number=self.round, is_open=True, num_received=0, num_admitted=0, num_rejected=0, contributors=(),
            waits_for="more",
        )  # fmt: skip
        return Status(
            protocol_version=1, layout_version=1, federation=FEDERATION, name="f", method="mean", rules=RoundRules(),
            max_contribution_bytes=1, latest=name, round=round_status, poll_after_s=0.0,
        )  # fmt: skip

    def upload(self, blob: Blob, read: object, *, progress: object) -> None:
        assert blob == BLOB
        self.num_uploads += 1

    def commit(self, manifest: ContributionManifest) -> None:
        self.committed.append(manifest)
        if self.closed:
            self.closed -= 1
            raise RoundClosedError("closed")

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        answer = self.answers.pop(0)
        if answer is None:
            raise ObjectNotFoundError("no such contribution")
        if answer == ADMITTED:
            self.release += 1
        if answer == LATE:
            self.round += 1
        if answer == REJECTED:  # others have made the next release
            self.looks_until_release = 3
        return ContributionVerdict(
            contribution=contribution, decision=answer[0], reason="why", is_late=answer[1], send_again=answer is DAMAGED
        )


class TrainedNode(Node):
    """A node whose training is done."""

    def prepare(self) -> tuple[WorkFolder, Trained]:
        work = self.folder.work_on(self.client.release)  # type: ignore[arg-type]
        work.delta.write_bytes(b"delta")
        trained = Trained(
            base_release=self.client.release, base_digest=FEDERATION, work_digest=FEDERATION, num_examples=2,
            num_steps=1, score=Score(before=0.0, after=1.0), encoding="F32", delta=BLOB,
        )  # type: ignore[arg-type]  # fmt: skip
        return work, trained


def node_of(gateway: FakeGateway, folder: Path) -> tuple[TrainedNode, list[NodeEvent]]:
    events: list[NodeEvent] = []
    settings = NodeSettings(name="ada", train=DATA, validation=DATA, training=TrainingSettings())
    node = TrainedNode(settings, NodeFolder(folder), gateway, events.append, threading.Event())  # type: ignore[arg-type]
    return node, events


def test_an_admitted_contribution_is_done_with_the_release(tmp_path: Path) -> None:
    gateway = FakeGateway(PENDING, ADMITTED, ADMITTED)
    node, events = node_of(gateway, tmp_path)

    assert node.contribute() == 0

    assert [event.phase for event in events if event.phase != "waiting"] == ["committed", "released"]
    assert len(gateway.committed) == 1


def test_without_waiting_for_the_release_it_is_done_with_the_verdict(tmp_path: Path) -> None:
    node, events = node_of(FakeGateway(PENDING, ADMITTED), tmp_path)

    assert node.contribute(wait_for_release=False) == 0

    assert events[-1].phase == "admitted"


def test_a_rejection_ends_a_number_of_rounds_with_its_reason(tmp_path: Path) -> None:
    node, _ = node_of(FakeGateway(ADMITTED, ADMITTED, REJECTED), tmp_path)

    with pytest.raises(ContributionRejectedError, match="ada: rejected: why"):
        node.run(rounds=3)


def test_without_a_number_of_rounds_it_goes_on_after_a_rejection_until_it_is_stopped(tmp_path: Path) -> None:
    gateway = FakeGateway(REJECTED, ADMITTED, ADMITTED, PENDING)
    node, events = node_of(gateway, tmp_path)

    def stop_after_a_release(event: NodeEvent) -> None:
        events.append(event)
        if event.phase == "released":
            node.stop.set()

    with pytest.raises(StoppedError):
        dataclasses.replace(node, report=stop_after_a_release).run(rounds=None)

    phases = [event.phase for event in events if event.phase != "waiting"]
    assert phases == ["committed", "rejected", "committed", "released", "committed"]
    assert "for the next release" in [event.message for event in events]


def test_after_training_in_vain_it_goes_on_with_the_release_that_came_out_meanwhile(tmp_path: Path) -> None:
    class Slow(TrainedNode):
        def prepare(self) -> tuple[WorkFolder, Trained]:
            work, trained = super().prepare()
            if trained.base_release == 0:
                self.client.release = 1  # others have made it  # type: ignore[attr-defined]
                trained = trained.model_copy(update={"beats_base": False})
            return work, trained

    gateway, events = FakeGateway(ADMITTED, ADMITTED), []
    node, _ = node_of(gateway, tmp_path)

    def stop_if_it_waits(event: NodeEvent) -> None:
        events.append(event)
        if event.message == "for the next release":
            node.stop.set()

    Slow(node.settings, node.folder, node.client, stop_if_it_waits, node.stop).run(rounds=2)
    assert [manifest.base_release for manifest in gateway.committed] == [1]
    assert (events[0].phase, events[0].base_release) == ("kept", 0)


def test_what_was_only_late_is_sent_again_to_the_next_round(tmp_path: Path) -> None:
    gateway = FakeGateway(LATE, ADMITTED, ADMITTED)
    node, events = node_of(gateway, tmp_path)

    node.contribute()

    assert [manifest.round for manifest in gateway.committed] == [1, 2]
    assert "late" in [event.phase for event in events]


def test_what_the_store_has_damaged_is_sent_again_under_its_name(tmp_path: Path) -> None:
    gateway = FakeGateway(DAMAGED, PENDING, ADMITTED, ADMITTED)
    node, events = node_of(gateway, tmp_path)
    node.run(rounds=1)
    assert gateway.num_uploads == 2
    first, again = gateway.committed
    assert again == first  # the same contribution, in the same round
    assert [event.message for event in events if event.phase == "damaged"] == ["why"]


def test_a_round_that_closes_before_the_commit_costs_nothing(tmp_path: Path) -> None:
    gateway = FakeGateway(ADMITTED, ADMITTED, closed=2)
    node, _ = node_of(gateway, tmp_path)

    node.contribute()

    assert len(gateway.committed) == 3


def test_killed_between_commit_and_answer_it_asks_for_the_verdict_and_sends_nothing_twice(tmp_path: Path) -> None:
    gateway = FakeGateway(ADMITTED, ADMITTED)
    node, _ = node_of(gateway, tmp_path)
    work, trained = node.prepare()
    manifest = node.manifest(trained, status=gateway.status())
    work.save_sent(Sent(federation=FEDERATION, round=1, contribution=sha256(encode(manifest))))

    node.contribute()

    assert gateway.committed == []


@pytest.mark.parametrize(
    ("federation", "answers"), [(FEDERATION, (None, ADMITTED, ADMITTED)), (OTHER, (ADMITTED,) * 2)]
)
def test_what_the_federation_never_got_is_sent(tmp_path: Path, federation: str, answers: tuple) -> None:
    gateway = FakeGateway(*answers)
    node, _ = node_of(gateway, tmp_path)
    work, _ = node.prepare()
    work.save_sent(Sent(federation=federation, round=1, contribution=OTHER))

    node.contribute()

    assert len(gateway.committed) == 1


def test_only_what_decides_the_outcome_makes_it_train_again(tmp_path: Path) -> None:
    node, _ = node_of(FakeGateway(), tmp_path)

    def digest_with(**changes: object) -> str:
        training = dataclasses.replace(node.settings.training, **changes)  # type: ignore[arg-type]
        settings = dataclasses.replace(node.settings, training=training)
        return dataclasses.replace(node, settings=settings).settings.work_digest()

    assert digest_with(threads=7, checkpoint_every_s=1.0) == digest_with()
    assert digest_with(learning_rate=1e-3) != digest_with()
