"""Verifying a store, or a copy of one: from the fingerprint to every byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coldfuse.core.federation import FederationSettings, Terms
from coldfuse.core.release import Channel
from coldfuse.core.retention import Kept
from coldfuse.errors import FederationError
from coldfuse.registry.channels import CANDIDATE
from coldfuse.registry.federation import Federation
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.trust.seen import Seen
from coldfuse.trust.view import TrustView, root_key
from coldfuse.verification.beside import look_beside
from coldfuse.verification.causes import Cause
from coldfuse.verification.channels import look_at_channels, look_at_steps_back, look_at_target, look_for_rollbacks
from coldfuse.verification.contributions import Contributions
from coldfuse.verification.findings import Recomputed, Report
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.journals import Journals, SeenRound
from coldfuse.verification.membership import look_at_members
from coldfuse.verification.objects import Wanted, look_at_objects
from coldfuse.verification.releases import Lineage, SeenRelease, numbers_of_releases
from coldfuse.verification.rules import look_at_rules, read_claimed
from coldfuse.verification.scores import look_at_scores
from coldfuse.verification.signers import Signers, follow_roots
from coldfuse.verification.tombstones import Graves
from coldfuse.verification.verdicts import problems_of

if TYPE_CHECKING:
    from coldfuse.engine.execution import Executor


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be verified."""

    at_s: float
    """Seconds since 1970 at which it is judged what has expired."""
    fingerprint: str | None = None
    """What the federation is known by; None: the store's own word is taken, and that is said."""
    seen: Seen = field(default_factory=Seen)
    """The newest versions that were seen before."""
    release: int | None = None
    """Number of the release from which on the lineage is followed; None: the latest, by the signed channel."""
    reads_all: bool = False
    """True to read every object whole."""
    executor: Executor | None = None
    """Runs the tasks that fuse again; None: nothing is fused again."""
    is_alone: bool = False
    """True to fuse only that release again, and none before it."""


def verify_store(store: ObjectStore, request: Request) -> Report:
    """Verify all that leads to a release.

    Raises:
        FederationError: The store holds no federation, or no such release.
        StorageError: The store is away.
    """
    look = Inspection(store, request.at_s)
    settings = read_claimed(look)
    if settings is None and not look.findings.kept:
        if store.head(root_key(1)) is None and not numbers_of_releases(store):
            raise FederationError(
                f"{store.url} holds no federation (no {SETTINGS_KEY}); name a store, or a copy of one"
            )
        look.add(Cause.GAP, SETTINGS_KEY, "is missing, and without the settings nothing else can be looked at")
    return _Verification(look, request).run(settings)


@dataclass
class _Verification:
    look: Inspection
    request: Request
    signers: Signers | None = None
    view: TrustView | None = None
    releases: dict[int, SeenRelease] = field(default_factory=dict)
    rounds: dict[int, SeenRound] = field(default_factory=dict)
    recomputed: list[Recomputed] = field(default_factory=list)
    collected: Kept = field(default_factory=lambda: Kept(files=frozenset(), deltas=frozenset()))
    """Numbers of the releases whose files, and whose contributions, may have been removed."""

    def run(self, settings: FederationSettings | None) -> Report:
        number = None
        if settings is not None and self._look_at_signers(settings):
            number = self._look(settings)
        return Report(
            fingerprint=self.signers.fingerprint if self.signers else None,
            release=number,
            looked_at=self.look.looked_at,
            findings=self.look.findings.sorted(),
            num_more=self.look.findings.num_more,
            notes=tuple(self.look.notes),
            recomputed=tuple(self.recomputed),
        )

    def _look(self, settings: FederationSettings) -> int | None:
        """Look at everything; return the number of the release that it is about."""
        terms = look_at_rules(self.look, settings, self.signers)
        channels = look_at_channels(self.look, self.signers, seen=self.request.seen)
        number = self._number(channels)
        if number is None:
            self.look.add(Cause.GAP, "releases/", "there is none")
            return None
        self._look_at_lineage(settings, channels, number)
        self._look_at_rounds(settings, terms)
        look_for_rollbacks(self.look, channels.get("latest"), self.releases, self.rounds)
        look_at_steps_back(self.look, channels.get("latest"), self.signers)
        look_at_scores(self.look, self.view, self.rounds.values())
        self._look_at_parts(settings)
        self._fuse_again(settings, number)
        look_beside(self.look, view=self.view, releases=self.releases)
        return number

    def _look_at_signers(self, settings: FederationSettings) -> bool:
        """Look at roots and members; False where nobody knows who may sign, so that all else is worth nothing."""
        look, request = self.look, self.request
        if settings.root is None and request.fingerprint is None:
            look.note("this federation has no root: nothing in it is signed, and only its bytes can be verified")
            return True
        look.needs_seals = settings.adopted is None
        self.signers = follow_roots(look, request.fingerprint or settings.root)
        if self.signers is None:
            return False
        if request.fingerprint is None:
            look.note(f"the root {self.signers.fingerprint} is the store's own word: compare it with its operator's")
        self.view = look_at_members(look, self.signers)
        members = self.view.known().members.version if self.view else 0
        for what, found, before in (
            ("root", self.signers.newest.version, request.seen.root),
            ("list of members", members, request.seen.members),
            ("the last change of the settings", settings.number, request.seen.settings),
        ):
            if found < before:
                look.add(Cause.ROLLED_BACK, what, f"is version {found}, and {before} was seen before")
        return True

    def _number(self, channels: Mapping[str, Channel]) -> int | None:
        if self.request.release is not None:
            return self.request.release
        latest = channels.get("latest")
        if latest is not None:
            return latest.release
        return max(numbers_of_releases(self.look.store), default=None)

    def _look_at_lineage(self, settings: FederationSettings, channels: Mapping[str, Channel], number: int) -> None:
        lineage = Lineage(self.look, settings, self.signers)
        channels = {name: one for name, one in channels.items() if name != CANDIDATE}  # nobody serves that yet
        named = {channel.release: channel.manifest for channel in channels.values()}
        for release in lineage.back_from(number, named.get(number)):
            self.releases[release.number] = release
        if number not in self.releases and self.request.release is not None:
            raise FederationError(f"there is no release {number} in {self.look.store.url}, or it cannot be read")
        for name, channel in channels.items():
            if channel.release not in self.releases and (found := lineage.read(channel.release, channel.manifest)):
                self.releases[found.number] = found
            look_at_target(self.look, name, channel, self.releases.get(channel.release))
        if self.request.release is None:  # those that no channel shows: one may have been put back
            for other in numbers_of_releases(self.look.store):
                if other not in self.releases and (found := lineage.read(other, None)):
                    self.releases[other] = found

    def _look_at_rounds(self, settings: FederationSettings, terms: frozenset[Terms]) -> None:
        journals = Journals(self.look, settings, self.signers)
        newest = self.request.release  # a later one, that a channel shows, says nothing of what was asked for
        of_interest = [r for r in self.releases.values() if newest is None or r.number <= newest]
        made = max((release.manifest.round for release in of_interest), default=0)
        there = _numbers_of_rounds(self.look.store)
        wanted = [n for n in there if n <= made] if newest is not None else there
        for missing in self.look.gaps(wanted, 1, max(made, max(wanted, default=0))):
            self.look.add(Cause.GAP, f"round {missing}", "has no journal: rounds have no gaps")
        before: SeenRound | None = None
        for number in wanted:
            is_alone = number > 1 and (before is None or before.number != number - 1)
            round_ = journals.read(number, before=before, is_alone=is_alone)
            self.rounds[number] = round_
            known = None if is_alone else before
            for cause, why in problems_of(round_, before=known, releases=self.releases, terms=terms):
                self.look.add(cause, f"round {number}", why)
            before = round_

    def _look_at_parts(self, settings: FederationSettings) -> None:
        wanted, graves = Wanted(), Graves(self.look, self.signers, federation=settings.federation)
        self.collected = graves.collected
        fused = {
            one.contribution: r.number
            for r in self.releases.values()
            for one in (r.manifest.contributions if r.number not in graves.collected.deltas else ())
        }
        for release in self.releases.values():
            has_files = release.number not in graves.collected.files
            wanted.of_release(release.manifest, release.digest, has_files=has_files)
        contributions = Contributions(
            look=self.look, settings=settings, view=self.view, wanted=wanted, graves=graves
        )  # fmt: skip
        for round_ in self.rounds.values():
            contributions.of_round(round_, fused)
        look_at_objects(self.look, wanted, graves, reads_all=self.request.reads_all)

    def _fuse_again(self, settings: FederationSettings, number: int) -> None:
        if self.request.executor is None:
            return
        from coldfuse.verification.recompute import Recomputing  # who only looks needs no library that fuses

        recomputing = Recomputing(
            federation=Federation(self.look.store, settings), rounds=self.rounds, executor=self.request.executor,
            releases=self.releases,
        )  # fmt: skip
        wanted: int | None = number
        while wanted is not None and wanted in self.releases:
            release = self.releases[wanted]
            parent = self.releases.get(release.manifest.parent) if release.manifest.parent is not None else None
            if parent is not None and not self._is_collected(release, parent):
                self._note_recomputed(recomputing.again(release, parent))
            wanted = None if self.request.is_alone else release.manifest.parent

    def _is_collected(self, release: SeenRelease, parent: SeenRelease) -> bool:
        """Tell whether what a release was made from has been removed by the retention rules; that is noted."""
        if release.number not in self.collected.deltas and parent.number not in self.collected.files:
            return False
        self.look.note(f"release {release.number} was not fused again: the retention rules have removed what it takes")
        return True

    def _note_recomputed(self, found: Recomputed) -> None:
        self.recomputed.append(found)
        where = f"release {found.release}"
        if found.agrees is False:
            self.look.add(Cause.RECOMPUTE, where, found.why)
        elif found.agrees is None:
            self.look.add(Cause.NOT_SEEN, where, f"was not fused again: {found.why}")


def _numbers_of_rounds(store: ObjectStore) -> list[int]:
    names = {key.split("/")[1] for key in list_keys(store, "rounds/") if key.count("/") >= 2}
    return sorted(int(name) for name in names if name.isdecimal())
