"""What a damaged journal said, from what the store holds elsewhere.

Contributions and releases are named by their SHA-256, and say themselves who sent them and what was fused. So of an
entry that cannot be read only the order and some words are lost:

- `received`: the contribution's manifest names its contributor;
- the leader's last entry: the head holds it, too;
- `closed` of a round that was fused: the release lists what was fused, and what `closed` lists was admitted;
- any other: it is as if it had never been written, so the leader decides it once more: contributions that have no
  verdict are screened, a round that is not closed is closed, what is not published is published.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from coldfuse.core.contribution import Admission, AdmittedStatistics, ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Closed, Opened, Received, RoundState
from coldfuse.errors import CodecError, DamagedObjectError
from coldfuse.registry.objects import Objects
from coldfuse.storage.base import ObjectStore


def recover_received(store: ObjectStore, contribution: str) -> Received | None:
    """Return what a gateway recorded of a contribution, but for the time; None if its manifest is damaged, too."""
    manifest = _manifest(store, contribution)
    if manifest is None:
        return None
    return Received(
        contribution=contribution,
        contributor=manifest.contributor,
        display_name=manifest.display_name,
        received_at_s=0.0,
    )


def is_consistent(state: RoundState) -> bool:
    """Tell whether a journal has lost nothing that what it still says depends on."""
    if state.fused is not None and state.closed is None:
        return False
    known = state.admitted.keys() | state.rejected.keys()
    return state.closed is None or all(digest in known for digest in state.closed.contributions)


def complete(store: ObjectStore, state: RoundState) -> RoundState:
    """Return a journal's state with what it has lost, as far as it follows from what was fused."""
    closed = state.closed
    if closed is None and state.fused is not None:
        try:
            release = Objects(store).get_value(ReleaseManifest, state.fused.manifest)
        except (DamagedObjectError, CodecError):
            return state
        fused = tuple(sorted(one.contribution for one in release.contributions))
        closed = Closed(contributions=fused, reason="as the release says; the entry is damaged")
    wanted = closed.contributions if closed else ()
    known = state.admitted.keys() | state.rejected.keys()
    found = _admissions(store, [digest for digest in wanted if digest not in known], state.opened)
    return replace(state, closed=closed, admitted={**state.admitted, **found})


def _admissions(store: ObjectStore, contributions: Iterable[str], opened: Opened | None) -> dict[str, Admission]:
    found: dict[str, Admission] = {}
    base_release = opened.base_release if opened else None
    for digest in contributions:
        manifest = _manifest(store, digest)
        if manifest is not None:
            found[digest] = Admission(
                contribution=digest,
                contributor=manifest.contributor,
                display_name=manifest.display_name,
                delta_digest=manifest.delta_digest,
                num_examples=manifest.num_examples,
                score=manifest.score.quality if manifest.score else None,
                base_release=manifest.base_release if base_release not in {None, manifest.base_release} else None,
                reason="admitted, as what was fused says; the entry is damaged",
                statistics=_statistics(manifest, opened),
            )
    return found


def _statistics(manifest: ContributionManifest, opened: Opened | None) -> AdmittedStatistics | None:
    """Return the statistics that a contribution was admitted with: those of another kind nobody has looked at."""
    given = manifest.statistics
    if given is None or opened is None or given.kind != opened.statistics.wanted:
        return None
    return AdmittedStatistics(kind=given.kind, digest=given.digest)


def _manifest(store: ObjectStore, contribution: str) -> ContributionManifest | None:
    try:
        return Objects(store).get_value(ContributionManifest, contribution)
    except (DamagedObjectError, CodecError):
        return None
