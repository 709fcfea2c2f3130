"""Fuse the rounds since a contribution again, without it, one after the other on what comes of the one before.

Each round is fused by the function and under the terms that it was fused with, from the deltas that lie in the store.
What its contributors trained on was another base, which held what is left out: their deltas are applied as they are on
the base that has taken its place, with the outer steps' memory and the rounding's residual that go with that one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from coldfuse import __version__
from coldfuse.aggregator.model import Base
from coldfuse.core.contribution import Admission
from coldfuse.core.federation import Terms
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.retraction import RetractedStep, Retraction, influenced
from coldfuse.core.round import RoundState
from coldfuse.errors import FederationError


@dataclass(frozen=True, kw_only=True)
class Again:
    """A round to be fused again."""

    step: RetractedStep
    terms: Terms
    """What it was fused under."""
    admissions: Sequence[Admission]
    """What is fused, without what is left out."""
    base_release: int
    """Number of the release that it was opened on."""
    is_last: bool
    """True where nothing is fused after it."""


ReleaseOf = Callable[[int], ReleaseManifest]
"""release_of(number): returns a release's manifest."""


def steps_between(
    release_of: ReleaseOf, *, replaces: int, parent: int, left_out: Collection[str]
) -> tuple[RetractedStep, ...]:
    """List the rounds that lead from one release to a later one, and what is left of each.

    Args:
        release_of: Returns a release's manifest.
        replaces: Number of the later release.
        parent: Number of the release that it comes from.
        left_out: Digests of the contributions that are left out.

    Raises:
        FederationError: The later one does not come from the other.
    """
    made: list[ReleaseManifest] = []
    number: int | None = replaces
    while number != parent:
        release = None if number is None else release_of(number)
        if release is None or release.parent is None or release.parent >= release.release:
            raise FederationError(f"release {replaces} does not come from release {parent}")
        steps = release.retraction.steps if release.retraction else ()
        made[:0] = [release_of(step.release) for step in steps] or [release]
        number = release.parent
    out = set(left_out)
    first = next((one.release for one in made if any(c.contribution in out for c in one.contributions)), replaces)
    return tuple(_step(one, out, first) for one in made)


def _step(made: ReleaseManifest, left_out: Collection[str], first: int) -> RetractedStep:
    kept = [one.base_release for one in made.contributions if one.contribution not in left_out]
    return RetractedStep(
        release=made.release, round=made.round, num_fused=len(kept),
        num_influenced=influenced(kept, parent=made.parent or 0, first=first),
    )  # fmt: skip


FuseStep = Callable[[Again, Base], tuple[ReleaseManifest, Base]]
"""fuse_step(again, base): fuses a round on a base; returns what comes out, and as a base."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is needed to say what is fused again: it lies in journals and releases."""

    retraction: Retraction
    state_of: Callable[[int], RoundState]
    """Returns what a round's journal adds up to."""
    release_of: ReleaseOf

    def steps(self) -> Iterator[Again]:
        """List the rounds of which anything is left, in order.

        Raises:
            FederationError: A journal lacks what is needed.
        """
        last = self.retraction.last
        for step in self.retraction.steps:
            if step.num_fused:
                yield self._again(step, is_last=step == last)

    def _again(self, step: RetractedStep, *, is_last: bool) -> Again:
        state, left_out = self.state_of(step.round), set(self.retraction.left_out)
        opened = state.opened
        if opened is None or opened.terms is None:
            raise FederationError(
                f"round {step.round} cannot be fused again: its journal does not say by which method and rules"
            )
        fused = self.release_of(step.release).contributions
        kept = [one.contribution for one in fused if one.contribution not in left_out]
        missing = [digest for digest in kept if digest not in state.admitted]
        if missing:
            raise FederationError(
                f"round {step.round} cannot be fused again: its journal does not say how contribution "
                f"{missing[0][:12]} was admitted"
            )
        return Again(
            step=step, terms=opened.terms, admissions=[state.weighed(digest) for digest in kept],
            base_release=opened.base_release, is_last=is_last,
        )  # fmt: skip

    def run(self, parent: Base, fuse_step: FuseStep, *, round_number: int, now_s: float) -> ReleaseManifest:
        """Fuse all again, and return the manifest of the release that comes of it.

        Args:
            parent: The last release that never held what is left out.
            fuse_step: Fuses one round.
            round_number: Number of the round that the retraction has for itself.
            now_s: Seconds since 1970, for people.

        Raises:
            FederationError: A journal lacks what is needed.
            FusionError: A method refuses what is left of a round.
        """
        base, made = parent, parent.release
        contributions: list[FusedContribution] = []
        num_fused = 0
        for again in self.steps():
            # How old the base of a contribution is follows from numbers: they are those of then.
            stand_in = base.release.model_copy(update={"release": again.base_release})
            made, base = fuse_step(again, replace(base, release=stand_in, is_stand_in=True))
            contributions += made.contributions
            num_fused += 1
        return made.model_copy(
            update={
                "release": self.retraction.release,
                "parent": parent.release.release,
                "round": round_number,
                "contributions": tuple(contributions),
                "moved": made.moved if num_fused == 1 else None if num_fused else 0.0,
                "retraction": self.retraction,
                "created_at_s": now_s,
                "software": made.software | {"coldfuse": __version__},
            }
        )
