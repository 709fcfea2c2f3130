"""The channel `stable`, as whoever leads moves it: forward by the federation's rule, and back with `latest`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.round import RoundState
from coldfuse.core.soak import Out, SoakRule, alarm_of, soaked
from coldfuse.errors import CodecError, DamagedObjectError, FederationError, TrustError
from coldfuse.registry.federation import Federation
from coldfuse.registry.moving import STABLE, follow_back, line_of, read_stable
from coldfuse.registry.releases import channel_to

log = logging.getLogger(__name__)

_LOOKS = 20
"""Number of looks in the time that a release has to be out."""

_MIN_LOOK_S, _MAX_LOOK_S = 1.0, 60.0
"""Bounds of the seconds between two looks; a release that comes out is a reason to look, too."""


class Soaking:
    """Moves `stable` of one federation, as its leader."""

    def __init__(self) -> None:
        self._seen: Channel | None = None
        self._next_s = float("-inf")
        self._disputed: dict[int, bool] = {}  # of rounds that are over

    def look(self, federation: Federation, pointer: Channel) -> int | None:
        """Move `stable` if it is time to.

        Args:
            federation: The federation, with the keys of its aggregator.
            pointer: Where `latest` points.

        Returns:
            Number of the release that it points to now; None where it stays.

        Raises:
            ConflictError: Somebody else moves it.
            StorageError: The store is away.
        """
        now_s = federation.now_s()
        if pointer == self._seen and now_s < self._next_s:
            return None
        rule = federation.reopened().settings.soak or SoakRule()
        wait_s = rule.seconds / _LOOKS if rule.seconds is not None else _MAX_LOOK_S
        self._next_s = now_s + min(max(wait_s, _MIN_LOOK_S), _MAX_LOOK_S)
        try:
            moved = self._move(federation, pointer, rule, now_s)
        except (DamagedObjectError, FederationError, CodecError, TrustError) as error:
            log.error("channel %s stays where it is: %s", STABLE, error)  # rounds go on
            moved = None
        self._seen = pointer
        return moved

    def _move(self, federation: Federation, pointer: Channel, rule: SoakRule, now_s: float) -> int | None:
        signer = federation.signer.aggregator if federation.signer else None
        if self._is_jump(federation, pointer) and (back := follow_back(federation, signer=signer)) is not None:
            return back
        if not rule.is_on:
            return None
        there = read_stable(federation)
        was = -1 if there is None or there.is_damaged else there.channel.release
        line = list(_enough(line_of(federation, pointer, least=was + 1), rule, now_s))
        outs = {one.round: Out(number=one.release, made_at_s=one.created_at_s) for one in line}
        disputed = [out for number, out in outs.items() if self._is_disputed(federation, number)]
        alarm = alarm_of(pointer.rollback, disputed)
        number = soaked(list(outs.values()), rule, now_s=now_s, alarm=alarm)
        manifest = next((one for one in line if one.release == number), None)
        if manifest is None:
            return None
        return federation.pointers.write(STABLE, channel_to(manifest), there, signer).release

    def _is_disputed(self, federation: Federation, number: int) -> bool:
        """Tell whether a round's gate has published what a member warns of whom nobody could second."""
        if number not in self._disputed:
            state = federation.journal(number).led() if number else RoundState()
            terms = state.opened.terms if state.opened is not None else None
            self._disputed[number] = state.gating.warning(terms.gate if terms else None) is not None
        return self._disputed[number]

    def _is_jump(self, federation: Federation, pointer: Channel) -> bool:
        """Tell whether `latest` may have left the line that it was on."""
        if pointer == self._seen or self._seen is None:
            return self._seen is None
        if pointer.rollback != self._seen.rollback:
            return True
        return federation.release_at(pointer).parent != self._seen.release


def _enough(line: Iterator[ReleaseManifest], rule: SoakRule, now_s: float) -> Iterator[ReleaseManifest]:
    """Yield releases, newest first, until one is older than anything has to be: no history is read to its end."""
    for count, manifest in enumerate(line):
        yield manifest
        is_old = rule.seconds is not None and now_s - manifest.created_at_s >= rule.seconds
        if is_old or (rule.rounds is not None and count >= rule.rounds):
            return
