"""A contributor's node: fetch the base, fine-tune, send the delta, wait for the next base.

Nothing is kept in memory that the node's folder does not hold: a node that is killed and started again asks the folder
what is done and goes on. It holds no connection open while it trains, and a round goes on without it.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from coldfuse.consumer import fetch
from coldfuse.contributor.state import NodeFolder, Sent, Trained, WorkFolder
from coldfuse.core.contribution import ContributionManifest, Score
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import blob_digest, canonical_json, encode, sha256
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import ContributionRejectedError, ObjectNotFoundError, RoundClosedError
from coldfuse.gateway import Decision, Gateway, Status
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import Encoding
from coldfuse.tensors.files import LocalFile
from coldfuse.training.identity import dataset_digest, decisive_settings
from coldfuse.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What a node contributes, and as whom."""

    name: str
    """The contributor's name in the federation."""
    train: TextDataset
    """Private examples; they never leave the node."""
    validation: TextDataset
    """Private examples that scores are computed on."""
    training: TrainingSettings
    encoding: Encoding = "F32"
    """Dtype in which the delta travels."""


@dataclass(frozen=True, kw_only=True)
class NodeEvent:
    """What a node does, for people and scripts."""

    phase: str
    """waiting, fetching, training, trained, uploading, committed, admitted, rejected, released or late."""
    base_release: int
    message: str
    done: float | None = None
    """Fraction of the phase, where it is known."""
    score: Score | None = None


class StoppedError(Exception):
    """The node was asked to stop; everything it has done is in its folder."""


@dataclass(frozen=True)
class Node:
    """One node: its settings, its folder, its gateway, and whom to tell."""

    settings: NodeSettings
    folder: NodeFolder
    client: Gateway
    report: Callable[[NodeEvent], None]
    stop: threading.Event

    def contribute(self, *, wait_for_release: bool = True) -> int:
        """Take part in one round; return the release that was its base.

        Raises `ContributionRejectedError` with the aggregator's reason, and `StoppedError` when asked to stop.
        """
        while True:
            work, trained = self.prepare()
            sent = work.sent()
            if sent is None or sent.federation != self.client.status().federation:
                sent = self._send(work, trained)
            if sent is not None and self._settle(work, trained, sent, wait_for_release=wait_for_release):
                return trained.base_release

    def run(self, *, rounds: int | None) -> int:
        """Take part in this many rounds, or until stopped; return the number of contributions that were released.

        Without a number of rounds, a rejected contribution is told and the node goes on with the next base.
        """
        done = 0
        while rounds is None or done < rounds:
            try:
                self.contribute()
                done += 1
            except ContributionRejectedError as error:
                if rounds is not None:
                    raise
                base = self.client.status().latest.number
                self._tell("rejected", base, str(error))
                self._wait_until(lambda s, base=base: s.latest.number != base, base, "for the next release")  # type: ignore[misc]
        return done

    def prepare(self) -> tuple[WorkFolder, Trained]:
        """Fetch the latest base and fine-tune it, as far as that is not done already."""
        manifest = self._fetch()
        work = self.folder.work_on(manifest.release)
        trained = work.trained(base_digest=manifest.model_digest, work_digest=self._work_digest())
        return work, trained or self._train(work, manifest)

    def manifest(self, trained: Trained, *, status: Status) -> ContributionManifest:
        """Return what accompanies the delta."""
        return ContributionManifest.model_validate(
            {
                "federation": status.federation,
                "contributor": self.settings.name,
                "round": status.round.number,
                "delta_digest": blob_digest(trained.delta),
                "software": {name: version(name) for name in ("coldfuse", "torch", "transformers")}
                | {"python": platform.python_version()},
                **trained.model_dump(exclude={"work_digest"}),
            }
        )

    def _fetch(self) -> ReleaseManifest:
        def progress(done: int, total: int) -> None:
            self._check_stop()
            self._tell("fetching", manifest.release, f"{done >> 20} of {total >> 20} MiB", done=done / max(total, 1))

        manifest = self.client.release()
        return fetch(self.client, self.folder.base, which=manifest.release, progress=progress).manifest

    def _train(self, work: WorkFolder, base: ReleaseManifest) -> Trained:
        from coldfuse.training.checkpoint import discard_checkpoint  # torch comes with the first training
        from coldfuse.training.delta import write_delta
        from coldfuse.training.head import save_head
        from coldfuse.training.job import FineTuned, Progress, TrainingJob
        from coldfuse.training.training import fine_tune

        def progress(p: Progress) -> None:
            accuracy = f", accuracy {p.accuracy:.1%}" if p.accuracy is not None else ""
            message = f"epoch {p.epoch}, step {p.step} of {p.num_steps}{accuracy}"
            self._tell("training", base.release, message, done=p.step / max(p.num_steps, 1))

        base_model = open_checkpoint(self.folder.base)
        job = TrainingJob(
            base_dir=self.folder.base, base_digest=base.model_digest, schema_names=base_model.schema.keys(),
            round=base.release + 1, train=self.settings.train, validation=self.settings.validation,
        )  # fmt: skip
        self._tell("training", base.release, "starting", done=0.0)
        made = fine_tune(
            job, self.settings.training, checkpoint=work.checkpoint, progress=progress, stop=self.stop.is_set
        )
        if not isinstance(made, FineTuned):
            raise StoppedError
        work.forget_trained()
        delta = write_delta(
            work.delta, base_model, made.tensors, encoding=self.settings.encoding, base_digest=base.model_digest
        )
        save_head(work.head, made.head, self.settings.train.label_names)
        score = Score(before=made.accuracy_before, after=made.accuracy_after)
        trained = Trained(
            base_release=base.release, base_digest=base.model_digest, work_digest=self._work_digest(),
            num_examples=made.num_examples, num_steps=made.num_steps, score=score,
            encoding=self.settings.encoding, delta=delta,
        )  # fmt: skip
        work.forget_sent()
        work.write("trained.json", trained)
        discard_checkpoint(work.checkpoint)
        message = f"accuracy {score.before:.1%} → {score.after:.1%}, delta {delta.size_bytes / 2**20:.1f} MiB"
        self._tell("trained", base.release, message, score=score)
        return trained

    def _send(self, work: WorkFolder, trained: Trained) -> Sent | None:
        """Upload and commit; None when the base is no longer the latest: then there is a newer one to train on."""
        base = trained.base_release
        status = self._wait_until(lambda s: s.round.is_open or s.latest.number != base, base, "for the round to open")
        if status.latest.number != base:
            self._tell("late", base, f"release {status.latest.number} came out meanwhile")
            return None

        def progress(done: int, total: int) -> None:
            self._tell(
                "uploading", trained.base_release, f"{done >> 20} of {total >> 20} MiB", done=done / max(total, 1)
            )

        with LocalFile(work.delta).open() as file:

            def read(buffer: memoryview, start: int) -> None:
                self._check_stop()  # a large delta on a thin line takes hours
                file.read_into(buffer, start)

            self.client.upload(trained.delta, read, progress=progress)
        return self._commit(work, trained)

    def _commit(self, work: WorkFolder, trained: Trained) -> Sent | None:
        base = trained.base_release
        status = self._wait_until(lambda s: s.round.is_open or s.latest.number != base, base, "for the round to open")
        manifest = self.manifest(trained, status=status)
        sent = Sent(federation=manifest.federation, round=manifest.round, contribution=sha256(encode(manifest)))
        work.write("sent.json", sent)
        try:
            self.client.commit(manifest)
        except RoundClosedError as error:
            work.forget_sent()
            self._tell("late", base, str(error))
            self._pause(status)
            return None
        self._tell("committed", base, f"round {sent.round}, contribution {sent.contribution[:12]}")
        return sent

    def _settle(self, work: WorkFolder, trained: Trained, sent: Sent, *, wait_for_release: bool) -> bool:
        """Wait for the verdict and then for the next release; False when the contribution has to be sent again."""
        while True:
            status, base = self.client.status(), trained.base_release
            try:
                verdict = self.client.verdict(sent.round, sent.contribution)
            except ObjectNotFoundError:  # killed before the commit arrived
                work.forget_sent()
                return False
            if verdict.is_late:
                work.forget_sent()
                self._tell("late", base, verdict.reason)
                return False
            if verdict.decision is Decision.REJECTED:
                raise ContributionRejectedError(f"{self.settings.name}: rejected: {verdict.reason}")
            if status.latest.number != base:
                self._tell("released", base, f"release {status.latest.number} is out")
                return True
            if verdict.decision is Decision.ADMITTED and not wait_for_release:
                self._tell("admitted", base, verdict.reason)
                return True
            self._tell("waiting", base, status.round.waits_for)
            self._pause(status)

    def _wait_until(self, ready: Callable[[Status], bool], base_release: int, what: str) -> Status:
        while not ready(status := self.client.status()):
            self._tell("waiting", base_release, what)
            self._pause(status)
        return status

    def _pause(self, status: Status) -> None:
        if self.stop.wait(status.poll_after_s):
            raise StoppedError

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise StoppedError

    def _work_digest(self) -> str:
        data = [dataset_digest(self.settings.train), dataset_digest(self.settings.validation)]
        return sha256(canonical_json([decisive_settings(self.settings.training), data, self.settings.encoding]))

    def _tell(
        self, phase: str, base_release: int, message: str, *, done: float | None = None, score: Score | None = None
    ) -> None:
        self.report(NodeEvent(phase=phase, base_release=base_release, message=message, done=done, score=score))
