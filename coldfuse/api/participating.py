"""Taking part with a model that somebody else trains: the node's folder and sending, around a training of the user's.

Where several processes train one model, each has a participant, and calls the same methods in the same order: the first
one speaks with the federation, the others wait and are told.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coldfuse.api.own_delta import Ground, Made, require_no_statistics, write_own_delta
from coldfuse.attached.ranks import is_first, on_first
from coldfuse.consumer import read_fetched
from coldfuse.contributor.events import NodeEvent
from coldfuse.contributor.mending import mend_base
from coldfuse.contributor.sender import Sender
from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.names import Identity
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.errors import RoundClosedError, UserInputError
from coldfuse.gateway import ContributionVerdict, Gateway
from coldfuse.naming.sharing import Share
from coldfuse.tensors.changes import Change
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.encodings import Encoding

_LOG = logging.getLogger("coldfuse")
_TROUBLE = ("away", "changed", "damaged", "late", "rejected", "kept")


def log_event(event: NodeEvent) -> None:
    """Log what happens, and what goes wrong as a warning, which Python shows unless it is told otherwise."""
    base = "" if event.base_release is None else f"release {event.base_release}: "
    level = logging.DEBUG if event.done is not None else logging.INFO
    level = logging.WARNING if event.phase in _TROUBLE else level
    _LOG.log(level, "%s%s: %s", base, event.phase, event.message)


@dataclass(frozen=True, kw_only=True)
class OwnTraining:
    """As whom somebody takes part whose training is their own, and what decides the delta."""

    who: Identity
    """Id and name of the contributor."""
    share: Share = None
    """Patterns of the names of what is shared; None: all that the base has."""
    encoding: Encoding = "F32"
    """Dtype in which the delta travels."""
    federation: str = ""
    """Digest that names the federation: what was made for one is not sent to another, also of the same base."""
    decisive: tuple[object, ...] = ()
    """What else decides the delta, as far as it can be told: with others, what is finished is made again."""

    def owner_digest(self) -> str:
        """Digest whose work it is, and for which federation, whatever the settings."""
        return sha256(canonical_json([self.federation, self.who.id]))

    def work_digest(self) -> str:
        """Digest what decides the delta."""
        share = [self.share] if isinstance(self.share, str) else list(self.share or [])
        what = [self.federation, self.who.id, share, self.encoding, list(self.decisive)]
        return sha256(canonical_json(["own training", *what]))


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A round that has begun for this participant, or what became of the work of an earlier process."""

    base_release: int
    """Number of the release to train on, or of the one that was trained on."""
    base_digest: str = ""
    """Its model digest."""
    round: int = 0
    """Number of the round that is open, or opens next."""
    is_settled: bool = False
    """True where a delta that an earlier process had finished was sent instead, and has its release."""


class Participant:
    """Takes part in rounds with a model of the user's own."""

    def __init__(self, gateway: Gateway, terms: OwnTraining, work: Path) -> None:
        """Take where it takes part, as whom, and the folder that remembers what is done."""
        self.terms, self._folder = terms, NodeFolder(work.absolute())  # training may go to another folder
        self._stop, self.last_word = threading.Event(), ""
        self._said = "", ""
        self._sender = Sender(terms, self._folder, gateway, self.report, self._stop)

    @property
    def base_dir(self) -> Path:
        """Folder of the release that is trained on; only the first process reads it."""
        return self._folder.base

    def private(self, classes: str) -> Path:
        """Return the file of the private tensors of a model with these classes, for this federation."""
        return self._folder.private(f"{self.terms.owner_digest()} {classes}")

    @property
    def scratch(self) -> Path:
        """Folder for what is on its way, which `clear_scratch` removes."""
        return self._folder.scratch

    def clear_scratch(self) -> None:
        """Remove what is on its way."""
        if is_first():
            shutil.rmtree(self.scratch, ignore_errors=True)

    def write(self, work: WorkFolder, changes: Mapping[str, Change], made: Made) -> Trained:
        """Write a delta to the base, in the first process; see `write_own_delta`."""
        base, rule = open_checkpoint(self.base_dir), self._sender.client.status().statistics
        ground = Ground(release=self._fetched(), base=base, mend=self._mend, rule=rule, encoding=self.terms.encoding)
        return write_own_delta(work, ground, changes, made, offering=self.terms)

    def require_no_statistics(self) -> None:
        """Raise `UserInputError` if the federation takes no delta without statistics."""

        def look() -> dict[str, object]:
            require_no_statistics(self._sender.client.status().statistics)
            return {}

        on_first(look)

    def _fetched(self) -> ReleaseManifest:
        manifest = read_fetched(self.base_dir)
        if manifest is None:
            raise UserInputError(f"{self.base_dir}: the base was changed meanwhile; begin the round again")
        return manifest

    def _mend(self) -> bool:
        """Hash this node's copy of the base, and fetch again what is not what it was; False if all was right."""
        manifest = self._fetched()

        def tell(sentence: str) -> None:
            self.report(NodeEvent(phase="damaged", base_release=manifest.release, message=sentence))

        return mend_base(self._sender.client, self.base_dir, manifest, tell)

    @property
    def adapter(self) -> Path:
        """File of the adapter that rounds begin with."""
        return self._folder.adapter

    def report(self, event: NodeEvent) -> None:
        """Say what happens."""
        if event.phase in _TROUBLE:
            self.last_word = event.message
        if (event.phase, event.message) != self._said:  # who waits says so again and again
            log_event(event)
        self._said = event.phase, event.message

    def say(self, phase: str, base_release: int, message: str) -> None:
        """Report an event, once for all processes."""
        if is_first():
            self.report(NodeEvent(phase=phase, base_release=base_release, message=message))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out of the folder, and other participants of this one; learn whose rounds these are."""
        with ExitStack() as stack:

            def hold() -> dict[str, object]:
                stack.enter_context(self._folder.held(alone=False))
                return {"federation": self._sender.client.status().federation}

            self.terms = replace(self.terms, federation=str(on_first(hold)["federation"]))
            self._sender = replace(self._sender, settings=self.terms)
            yield

    def begin(self, *, wait: bool = True) -> Begun:
        """Send what an earlier process has finished, or fetch the latest base to be trained on."""
        told: Any = on_first(lambda: self._begin(wait), stop=self._stop)
        return Begun(**{name: told[name] for name in ("base_release", "base_digest", "round", "is_settled")})

    def _begin(self, wait: bool) -> dict[str, object]:
        while True:
            work, trained = self._sender.kept() or (None, None)
            if trained is None:
                work, manifest = self._sender.begin()
                digest = self.terms.work_digest()
                trained = work.trained(base_digest=manifest.model_digest, work_digest=digest)
                if trained is None:
                    self._mend()
                    status = self._sender.client.status()
                    return {
                        "base_release": manifest.release, "base_digest": manifest.model_digest,
                        "round": status.round.number, "is_settled": False,
                    }  # fmt: skip
            assert work is not None  # noqa: S101 - it comes with what was trained
            base = trained.base_release
            self.report(NodeEvent(phase="trained", base_release=base, message="by an earlier process; sending that"))
            if self._sender.settle(work, trained, wait_for_release=wait):
                return {"base_release": base, "base_digest": trained.base_digest, "round": 0, "is_settled": True}

    def base(self) -> Checkpoint | None:
        """Open the release that is trained on, in the first process."""
        return open_checkpoint(self.base_dir) if is_first() else None

    def work_on(self, begun: Begun) -> WorkFolder | None:
        """Return the folder of a round's work, in the first process."""
        return self._folder.work_on(begun.base_release) if is_first() else None

    def send(self, begun: Begun, trained: Trained | None, *, wait: bool) -> ContributionVerdict | None:
        """Send what was made, and wait for its verdict, and its release where that is wanted.

        Args:
            begun: The round.
            trained: What was made, saved already; the first process has it.
            wait: False to come back with the verdict.

        Returns:
            The verdict, in the first process.

        Raises:
            RoundClosedError: No round takes it any more.
            ContributionRejectedError: It was rejected; the message says why.
        """
        verdict: ContributionVerdict | None = None

        def deliver() -> dict[str, object]:
            nonlocal verdict
            assert trained is not None  # noqa: S101 - the first process has made it
            work = self._folder.work_on(begun.base_release)
            if not self._sender.settle(work, trained, wait_for_release=wait):
                raise RoundClosedError(self.last_word or "no round takes what was trained any more")
            if sent := work.sent():
                verdict = self._sender.client.verdict(sent.round, sent.contribution)
            return {}

        on_first(deliver, stop=self._stop)
        return verdict

    def wait_after_rejection(self, message: str) -> None:
        """Say that what an earlier process has finished was rejected, and wait until another release is out."""

        def wait() -> dict[str, object]:
            base = self._sender.client.status().latest.number
            self.report(NodeEvent(phase="rejected", base_release=base, message=message))
            self._sender.wait_for_release(base)
            return {}

        on_first(wait, stop=self._stop)

    def wait_for_release(self, begun: Begun) -> None:
        """Wait until another release than the one that was trained on is out."""

        def wait() -> dict[str, object]:
            self._sender.wait_for_release(begun.base_release)
            return {}

        on_first(wait, stop=self._stop)
