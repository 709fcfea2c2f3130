"""A contributor's node: fetch the base, fine-tune, send the delta, wait for the next base.

Nothing is kept in memory that the node's folder does not hold: a node that is killed and started again asks the folder
what is done and goes on. It holds no connection open while it trains, and a round goes on without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from coldfuse.consumer import fetch
from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.contributor.manifest import software
from coldfuse.contributor.outliving import outlive
from coldfuse.contributor.state import NodeFolder, Sent, Trained, WorkFolder
from coldfuse.core.contribution import ContributionManifest, Score
from coldfuse.core.names import Identity
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import blob_digest, canonical_json, encode, sha256
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import ContributionRejectedError, ObjectNotFoundError, RoundClosedError
from coldfuse.gateway import Decision, Gateway, Status
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import Encoding
from coldfuse.tensors.files import LocalFile
from coldfuse.training.job import TrainingSettings

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingProgress


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What a node contributes, and as whom."""

    name: str
    """Name of the contributor in the federation, of any script."""
    train: TextDataset
    """Private examples to learn from; they never leave the node."""
    validation: TextDataset
    """Private examples that scores are computed on."""
    training: TrainingSettings
    """Settings of the fine-tuning."""
    encoding: Encoding = "F32"
    """Dtype in which the delta travels."""

    def __post_init__(self) -> None:
        """Refuse what is no name before anything is done under it."""
        Identity.of(self.name)

    @property
    def who(self) -> Identity:
        """Id and name of the contributor."""
        return Identity.of(self.name)


@dataclass(frozen=True)
class Node:
    """A contributor's node; `contribute` and `run` are its life, the other methods its steps."""

    settings: NodeSettings
    """What it contributes, and as whom."""
    folder: NodeFolder
    """Folder that remembers what is done."""
    client: Gateway
    """Client of the federation's gateway."""
    report: Callable[[NodeEvent], None]
    """Callback for every event; threads may call it."""
    stop: threading.Event
    """Event that ends the node where it is."""

    def contribute(self, *, wait_for_release: bool = True) -> int:
        """Take part in one round.

        Args:
            wait_for_release: False: come back with the verdict, and do not wait for what the round makes of it.

        Returns:
            The number of the release that was the base.

        Raises:
            ContributionRejectedError: The aggregator has rejected the contribution; the message says why.
            StoppedError: The node was asked to stop.
        """
        while True:
            work, trained = self.prepare()
            sent = work.sent()
            if sent is None or sent.federation != self.client.status().federation:
                sent = self._send(work, trained)
            if sent is not None and self._await_verdict(work, trained, sent, wait_for_release=wait_for_release):
                return trained.base_release

    def run(self, *, rounds: int | None) -> None:
        """Take part in this many rounds, or until stopped; see `contribute`.

        Without a number of rounds a rejection is reported, and the node goes on with the next base; and it waits for a
        gateway that is away for as long as that takes.
        """
        if rounds is not None:
            for _ in range(rounds):
                self.contribute()
            return
        while True:
            outlive(self._go_on, self.stop, lambda reason: self._say("away", None, f"{reason}; trying again"))

    def _go_on(self) -> None:
        try:
            self.contribute()
        except ContributionRejectedError as error:
            base = self.client.status().latest.number
            self._say("rejected", base, str(error))
            self._wait(base, "for the next release", for_round=False)

    def prepare(self) -> tuple[WorkFolder, Trained]:
        """Fetch the latest base and fine-tune it, as far as that is not done already."""
        base = self.client.release().release
        say = self._transfer_progress("fetching", base)

        def progress(done: int, total: int) -> None:
            self._check_stop()
            say(done, total)

        fetched = fetch(self.client, self.folder.base, progress=progress, allow_older=True)
        manifest = fetched.manifest
        if fetched.changed:
            self._say("changed", manifest.release, f"{fetched.changed}; going on with release {manifest.release}")
        work = self.folder.work_on(manifest.release)
        trained = work.trained(base_digest=manifest.model_digest, work_digest=self._work_digest())
        return work, trained or self._train(work, manifest)

    def manifest(self, trained: Trained, *, status: Status) -> ContributionManifest:
        """Return what accompanies the delta."""
        return ContributionManifest.model_validate(
            {
                "federation": status.federation,
                "contributor": self.settings.who.id,
                "display_name": self.settings.who.display_name,
                "round": status.round.number,
                "delta_digest": blob_digest(trained.delta),
                "software": software(),
                **trained.model_dump(exclude={"work_digest"}),
            }
        )

    def _train(self, work: WorkFolder, base: ReleaseManifest) -> Trained:
        from coldfuse.training.checkpoint import discard_checkpoint  # torch comes with the first training
        from coldfuse.training.delta import write_delta
        from coldfuse.training.fine_tuning import fine_tune
        from coldfuse.training.head import save_head
        from coldfuse.training.job import FineTuned, TrainingJob

        def progress(now: TrainingProgress) -> None:
            done = now.step / max(now.num_steps, 1)
            self._say("training", base.release, _describe(now), done=done, accuracy=now.accuracy)

        settings, base_model = self.settings, open_checkpoint(self.folder.base)
        job = TrainingJob(
            base_dir=self.folder.base, base_digest=base.model_digest, schema_names=base_model.schema.keys(),
            round=base.release + 1, train=settings.train, validation=settings.validation,
        )  # fmt: skip
        self._say("training", base.release, "starting", done=0.0)
        made = fine_tune(job, settings.training, checkpoint=work.checkpoint, progress=progress, stop=self.stop.is_set)
        if not isinstance(made, FineTuned):
            raise StoppedError
        work.forget_trained()
        delta = write_delta(
            work.delta, base_model, made.tensors, encoding=settings.encoding, base_digest=base.model_digest
        )
        save_head(work.head, made.head, settings.train.label_names)
        score = Score(before=made.accuracy_before, after=made.accuracy_after)
        trained = Trained(
            base_release=base.release, base_digest=base.model_digest, work_digest=self._work_digest(),
            num_examples=made.num_examples, num_steps=made.num_steps, score=score,
            encoding=settings.encoding, delta=delta,
        )  # fmt: skip
        work.forget_sent()
        work.save_trained(trained)
        discard_checkpoint(work.checkpoint)  # only now: what it spares is safe
        message = f"accuracy {score.before:.1%} → {score.after:.1%}, delta {delta.size_bytes / 2**20:.1f} MiB"
        self._say("trained", base.release, message, score=score)
        return trained

    def _send(self, work: WorkFolder, trained: Trained) -> Sent | None:
        """Upload and commit; None when the base is no longer the latest, or the round has closed: then begin anew."""
        base = trained.base_release
        status = self._wait(base, "for the round to open")
        if status.latest.number != base:
            self._say("late", base, f"{_moved(base, status)} meanwhile")
            return None
        self._upload(work, trained)
        status = self._wait(base, "for the round to open")
        manifest = self.manifest(trained, status=status)
        sent = Sent(federation=manifest.federation, round=manifest.round, contribution=sha256(encode(manifest)))
        work.save_sent(sent)  # before the commit: should its answer be lost, the gateway is asked for the verdict
        try:
            self.client.commit(manifest)
        except RoundClosedError as error:
            work.forget_sent()
            self._say("late", base, str(error))
            self._pause(status)
            return None
        self._say("committed", base, f"round {sent.round}, contribution {sent.contribution[:12]}")
        return sent

    def _upload(self, work: WorkFolder, trained: Trained) -> None:
        with LocalFile(work.delta).open() as file:

            def read(buffer: memoryview, start: int) -> None:
                self._check_stop()  # a large delta on a thin line takes hours
                file.read_into(buffer, start)

            progress = self._transfer_progress("uploading", trained.base_release)
            self.client.upload(trained.delta, read, progress=progress)

    def _send_again(self, work: WorkFolder, trained: Trained, sent: Sent, reason: str) -> None:
        """Send what the store has damaged of a contribution; what it holds in full is not sent."""
        base = trained.base_release
        self._say("damaged", base, reason)
        self._upload(work, trained)
        manifest = self.manifest(trained, status=self.client.status()).model_copy(update={"round": sent.round})
        if sha256(encode(manifest)) == sent.contribution:  # else another version of coldfuse has made it
            with suppress(RoundClosedError):  # it was received before: its verdict says what comes of it
                self.client.commit(manifest)

    def _await_verdict(self, work: WorkFolder, trained: Trained, sent: Sent, *, wait_for_release: bool) -> bool:
        """Wait for the verdict and then for the next release; False when the contribution has to be sent again."""
        base = trained.base_release
        while True:
            status = self.client.status()
            try:
                verdict = self.client.verdict(sent.round, sent.contribution)
            except ObjectNotFoundError:  # killed before the commit arrived
                work.forget_sent()
                return False
            if verdict.is_late:
                work.forget_sent()
                self._say("late", base, verdict.reason)
                return False
            if verdict.send_again:
                self._send_again(work, trained, sent, verdict.reason)
            if verdict.decision is Decision.REJECTED:
                raise ContributionRejectedError(f"{self.settings.who.id}: rejected: {verdict.reason}")
            if status.latest.number != base:
                self._say("released", base, _moved(base, status))
                return True
            if verdict.decision is Decision.ADMITTED and not wait_for_release:
                self._say("admitted", base, verdict.reason)
                return True
            self._say("waiting", base, status.round.waits_for)
            self._pause(status)

    def _wait(self, base: int, what: str, *, for_round: bool = True) -> Status:
        """Wait until another release than the base is out, or a round is open where that will do."""
        while (status := self.client.status()).latest.number == base and not (for_round and status.round.is_open):
            self._say("waiting", base, what)
            self._pause(status)
        return status

    def _pause(self, status: Status) -> None:
        if self.stop.wait(status.poll_after_s):
            raise StoppedError

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise StoppedError

    def _work_digest(self) -> str:
        """Digest what decides the delta: with the same, a finished training is not made again."""
        settings = self.settings
        data = [settings.train.digest(), settings.validation.digest()]
        return sha256(canonical_json([settings.training.decisive(), data, settings.encoding]))

    def _transfer_progress(self, phase: str, base: int) -> Callable[[int, int], None]:
        return lambda done, total: self._say(
            phase, base, f"{done / 2**20:.1f} of {total / 2**20:.1f} MiB", done=done / max(total, 1)
        )

    def _say(self, phase: str, base_release: int | None, message: str, **facts: Unpack[_Facts]) -> None:
        self.report(NodeEvent(phase=phase, base_release=base_release, message=message, **facts))


class _Facts(TypedDict, total=False):
    """What an event may say beside its message."""

    done: float | None
    accuracy: float | None
    score: Score | None


def _describe(now: TrainingProgress) -> str:
    if now.phase == "probe":
        return f"fitting a head on the unchanged base, step {now.step} of {now.num_steps}"
    accuracy = f", accuracy {now.accuracy:.1%}" if now.accuracy is not None else ""
    return f"epoch {now.epoch}, step {now.step} of {now.num_steps}{accuracy}"


def _moved(base: int, status: Status) -> str:
    """Say which way the federation has gone from a base."""
    latest = status.latest.number
    return f"release {latest} is out" if latest > base else f"the federation has gone back to release {latest}"
