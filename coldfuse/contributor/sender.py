"""What every contributor does, whoever trains: fetch a base, send what was made of it, wait for the outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Unpack

from coldfuse.consumer import fetch
from coldfuse.consumer.channels import is_undone
from coldfuse.contributor.events import Facts, NodeEvent, StoppedError
from coldfuse.contributor.late import explain_drop, explain_weight, is_of, is_taken, list_unsettled, moved
from coldfuse.contributor.manifest import software
from coldfuse.contributor.mending import recall, send_files
from coldfuse.contributor.settings import Offering
from coldfuse.contributor.signing import hand_in
from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.given_edit import explain_method
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import blob_digest, encode, sha256
from coldfuse.errors import ContributionRejectedError, ObjectNotFoundError, RoundClosedError
from coldfuse.gateway import Decision, Gateway, Status


@dataclass(frozen=True)
class Sender:
    """One contributor at one gateway, with a folder that remembers what is done."""

    settings: Offering
    """As whom it contributes, and what decides the delta."""
    folder: NodeFolder
    """Folder that remembers what is done."""
    client: Gateway
    """Client of the federation's gateway."""
    report: Callable[[NodeEvent], None]
    """Callback for every event; threads may call it."""
    stop: threading.Event
    """Event that ends the node where it is."""

    def kept(self) -> tuple[WorkFolder, Trained] | None:
        """Return what was trained on an older base and has come to no end; what no round takes any more is dropped."""
        status, found = self.client.status(), None
        for work, trained in list_unsettled(self.folder, status.latest.number, self.settings.work_digest()):
            if found is None and is_of(trained, self.client):
                if work.sent() is not None or is_taken(trained.base_release, status):
                    found = work, trained
                else:
                    self._drop(work, trained, status)
        return found

    def _drop(self, work: WorkFolder, trained: Trained, status: Status) -> None:
        """Say that what was trained counts nowhere, and look at it no more."""
        work.forget_trained()
        self._say("late", trained.base_release, explain_drop(trained.base_release, status))

    def begin(self, which: int | str = "latest") -> tuple[WorkFolder, ReleaseManifest]:
        """Fetch a release to work on, and return where the work on it goes."""
        base = self.client.release(which).release
        say = self._transfer_progress("fetching", base)

        def progress(done: int, total: int) -> None:
            self._check_stop()
            say(done, total)

        fetched = fetch(self.client, self.folder.base, which=which, progress=progress, allow_older=True)
        manifest = fetched.manifest
        if fetched.changed:
            self._say("changed", manifest.release, f"{fetched.changed}; going on with release {manifest.release}")
        return self.folder.work_on(manifest.release, self._teller(manifest.release)), manifest

    def deliver(self, work: WorkFolder, trained: Trained, *, wait_for_release: bool = True) -> bool:
        """Send what was made, unless that is done, and wait for its verdict and release.

        Returns:
            False where it has to be sent again, or counts nowhere any more: then `work` says what is left of it.

        Raises:
            ContributionRejectedError: The aggregator has rejected the contribution; the message says why.
            StoppedError: The node was asked to stop.
        """
        sent = work.sent() or self._recall(work, trained)
        status = self.client.status()
        if sent is None or sent.federation != status.federation or self._is_undone(work, trained, sent, status):
            sent = self._send(work, trained)
        return sent is not None and self._await_verdict(work, trained, sent, wait_for_release=wait_for_release)

    def settle(self, work: WorkFolder, trained: Trained, *, wait_for_release: bool = True) -> bool:
        """Deliver what was made until it comes to an end; False where no round takes it any more, or it is damaged."""
        while not self.deliver(work, trained, wait_for_release=wait_for_release):
            if work.trained(base_digest=trained.base_digest, work_digest=trained.work_digest) is None:
                return False
        return True

    def manifest(self, trained: Trained, *, status: Status) -> ContributionManifest:
        """Return what accompanies the delta."""
        if trained.statistics is not None and trained.statistics.kind != status.statistics.wanted:
            trained = trained.model_copy(update={"statistics": None})  # by now nobody looks at them
        return ContributionManifest.model_validate(
            {
                "federation": status.federation,
                "contributor": self.settings.who.id,
                "display_name": self.settings.who.display_name,
                "is_named": self.settings.who.is_named or None,
                "round": status.round.number,
                "delta_digest": blob_digest(trained.delta),
                "software": software(),
                **trained.model_dump(exclude={"work_digest", "beats_base"}),
            }
        )

    def _send(self, work: WorkFolder, trained: Trained, *, may_send_again: bool = True) -> Sent | None:
        """Upload and commit; None when no round takes it any more, or this one has closed: then see what is left."""
        base = trained.base_release
        status = self._wait_for_round(work, trained)
        if status is None:
            return None
        self._say_what_becomes_of_edit(trained, status)
        if not self._upload(work, trained):
            return None
        status = self._wait_for_round(work, trained)
        if status is None:
            return None
        manifest = self.manifest(trained, status=status)
        sent = Sent(
            federation=manifest.federation, round=manifest.round, contribution=sha256(encode(manifest)),
            trained=trained, after_release=status.latest.number, is_done=False,
        )  # fmt: skip
        work.save_sent(sent)  # before the commit: should its answer be lost, the gateway is asked for the verdict
        try:
            hand_in(self.client, manifest)
        except RoundClosedError as error:
            work.forget_sent()
            self._say("late", base, str(error))
            self._pause(status)  # before anything else is asked: a status may be from before the refusal
            now = self.client.status()
            if base != now.latest.number and now.round.is_open and now.round.number == sent.round:
                self._drop(work, trained, now)  # it was no race: this round does not take it, nor will a later one
            return None
        except ContributionRejectedError:
            work.forget_sent()
            if not may_send_again or not self.client.find_missing(manifest.parts):
                raise
            work.masks.note(trained.mask, is_sent=False)
            self._pause(status)  # parts that nobody commits are cleared in the end, or were damaged there
            return self._send(work, trained, may_send_again=False)
        work.masks.note(trained.mask, is_sent=True)
        late = explain_weight(base, status)
        self._say("committed", base, f"round {sent.round}, contribution {sent.contribution[:12]}{late}")
        return sent

    def _say_what_becomes_of_edit(self, trained: Trained, status: Status) -> None:
        """Say it before anything is sent: half of an edit may do nothing, and a gate would refuse it."""
        fate = explain_method(status.method) if trained.edit is not None else None
        if fate is not None:
            self._say("uploading", trained.base_release, fate)

    def _upload(self, work: WorkFolder, trained: Trained) -> bool:
        base = trained.base_release
        return send_files(
            self.client, work, trained, check=self._check_stop, progress=self._transfer_progress("uploading", base),
            tell=self._teller(base),
        )  # fmt: skip

    def _send_again(self, work: WorkFolder, trained: Trained, sent: Sent, reason: str) -> None:
        """Send what the store has damaged of a contribution; what it holds in full is not sent."""
        self._say("damaged", trained.base_release, reason)
        work.masks.note(trained.mask, is_sent=False)
        if not self._upload(work, trained):
            self._say("damaged", trained.base_release, f"{work.delta}: is damaged here, too; it cannot be sent again")
            return
        manifest = self.manifest(trained, status=self.client.status()).model_copy(update={"round": sent.round})
        if sha256(encode(manifest)) == sent.contribution:  # else another version of coldfuse has made it
            with suppress(RoundClosedError):  # it was received before: its verdict says what comes of it
                hand_in(self.client, manifest)

    def _recall(self, work: WorkFolder, trained: Trained) -> Sent | None:
        """Return what was sent, where the note of that was lost."""
        if not work.has_lost_sent:
            return None
        return recall(self.client, work, self.manifest(trained, status=self.client.status()))

    def _wait_for_round(self, work: WorkFolder, trained: Trained) -> Status | None:
        """Wait for an open round that takes what was trained; None once none will."""
        while is_taken(trained.base_release, status := self.client.status()):
            if status.round.is_open:
                return status
            self._say("waiting", trained.base_release, "for the round to open")
            self._pause(status)
        self._drop(work, trained, status)
        return None

    def _await_verdict(self, work: WorkFolder, trained: Trained, sent: Sent, *, wait_for_release: bool) -> bool:
        """Wait for the verdict and then for the next release; False when the contribution has to be sent again."""
        base, looked_in = trained.base_release, sent.round
        while True:
            status = self.client.status()
            if status.round.number > looked_in and self._is_undone(work, trained, sent, status):
                return False
            looked_in = status.round.number
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
                work.save_sent(sent.model_copy(update={"is_done": True}))
                raise ContributionRejectedError(f"{self.settings.who.id}: rejected: {verdict.reason}")
            is_out = status.latest.number != (base if sent.after_release is None else sent.after_release)
            if verdict.decision is Decision.ADMITTED and (is_out or not wait_for_release):
                work.save_sent(sent.model_copy(update={"is_done": True}))
                said = ("released", moved(base, status)) if is_out else ("admitted", verdict.reason)
                self._say(said[0], base, said[1])
                return True
            self._say("waiting", base, status.round.waits_for)
            self._pause(status)

    def _is_undone(self, work: WorkFolder, trained: Trained, sent: Sent, status: Status) -> bool:
        """Tell whether what a round has made of this was rolled back, so that it has to be sent again; and say so."""
        base = (trained.base_release, trained.base_digest)
        if status.latest.number != trained.base_release or status.round.number <= sent.round:
            return False  # nothing of it can have been
        if not is_undone(self.client, round_number=sent.round, base=base):
            return False
        work.forget_sent()
        self._say("late", trained.base_release, "the federation has gone back to this release; sending it again")
        return True

    def wait_for_release(self, base: int) -> None:
        """Wait until another release than the base is out."""
        while (status := self.client.status()).latest.number == base:
            self._say("waiting", base, "for the next release")
            self._pause(status)

    def _pause(self, status: Status) -> None:
        if self.stop.wait(status.poll_after_s):
            raise StoppedError

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise StoppedError

    def _teller(self, base: int) -> Callable[[str], None]:
        return lambda sentence: self._say("damaged", base, sentence)

    def _transfer_progress(self, phase: str, base: int) -> Callable[[int, int], None]:
        return lambda done, total: self._say(
            phase, base, f"{done / 2**20:.1f} of {total / 2**20:.1f} MiB", done=done / max(total, 1)
        )

    def _say(self, phase: str, base_release: int | None, message: str, **facts: Unpack[Facts]) -> None:
        self.report(NodeEvent(phase=phase, base_release=base_release, message=message, **facts))
