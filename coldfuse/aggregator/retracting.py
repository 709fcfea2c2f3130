"""A round that takes something out: it is opened for nobody, and fuses what earlier rounds have fused again.

All that it needs stands in the entry that opens it, in the journals of the rounds since, and in the store. So whoever
leads goes on with it where another has ended, and comes to the same bytes.
"""

from __future__ import annotations

from coldfuse.aggregator.model import Base, open_base
from coldfuse.aggregator.release import fuse_release
from coldfuse.aggregator.replay import Again, ReleaseOf, Replay
from coldfuse.aggregator.screen import bounded
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.retraction import Retraction
from coldfuse.core.round import Abandoned, Closed, Fused, Opened, RoundState
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode, encode
from coldfuse.engine.execution import Executor
from coldfuse.errors import CodecError, DamagedObjectError, FederationError, FusionError
from coldfuse.registry.federation import Federation
from coldfuse.registry.published import find_manifest


def releases_of(federation: Federation) -> ReleaseOf:
    """Return what reads releases by their numbers: signed ones, wherever they have to be."""

    def read(number: int) -> ReleaseManifest:
        data = find_manifest(
            federation.store, federation.settings, federation.trust, number=number, journal=federation.journal
        )
        if data is None:
            raise FederationError(f"there is no release {number}, which is needed to fuse again what came after it")
        return decode(ReleaseManifest, data, what=f"release {number}")

    return read


def next_of_retraction(
    federation: Federation, executor: Executor, state: RoundState, *, round_number: int
) -> Closed | Fused | Abandoned:
    """Return the next entry of a round that takes something out, and that has fused nothing yet.

    Args:
        federation: The federation.
        executor: Runs the tasks.
        state: What the round's journal adds up to.
        round_number: The round's number.

    Raises:
        StorageError: The store is away.
    """
    opened = state.opened
    if opened is None or opened.retraction is None:
        raise ValueError(f"round {round_number} takes nothing out")
    if state.closed is None:
        return Closed(contributions=(), reason=bounded(opened.retraction.reason))
    try:
        manifest = fuse_retraction(
            federation, opened.retraction, executor, round_number=round_number, now_s=opened.opened_at_s,
            parent=opened.base_release,
        )  # fmt: skip
    except (FusionError, FederationError, CodecError, DamagedObjectError) as error:
        return Abandoned(reason=bounded(f"nothing is retracted: {error}"))
    return fused_entry(federation, manifest)


def fused_entry(federation: Federation, manifest: ReleaseManifest) -> Fused:
    """Store the manifest of what was fused, and return the entry that says so."""
    digest = federation.objects.put_value(manifest)
    return Fused(manifest=digest, model_digest=manifest.model_digest, moved=manifest.moved)


def fuse_retraction(
    federation: Federation, retraction: Retraction, executor: Executor, *, round_number: int, now_s: float, parent: int
) -> ReleaseManifest:
    """Fuse the rounds since again, and return the manifest of the release to be published.

    Args:
        federation: The federation.
        retraction: What is left out, and what is fused again.
        executor: Runs the tasks.
        round_number: Number of the round that the retraction has for itself.
        now_s: Seconds since 1970 at which that was opened: the same for whoever goes on with it.
        parent: Number of the last release that never held what is left out.

    Raises:
        FusionError: A method refuses what is left of a round.
        FederationError: A journal or a release lacks what is needed.
        DamagedObjectError: Something in the store is damaged or gone.
    """
    release_of = releases_of(federation)

    def fuse_step(again: Again, base: Base) -> tuple[ReleaseManifest, Base]:
        try:
            made = fuse_release(
                federation.under(again.terms), base, again.admissions, executor,
                round_number=again.step.round, now_s=now_s,
            )  # fmt: skip
        except FusionError as error:
            raise FusionError(
                f"round {again.step.round} cannot be fused without it: the method refuses the "
                f"{len(again.admissions)} contributions that are left: {error}"
            ) from error
        return made, base if again.is_last else open_base(federation, made)

    replay = Replay(
        retraction=retraction, state_of=lambda number: federation.journal(number).state(), release_of=release_of
    )
    base = open_base(federation, release_of(parent))
    made = replay.run(base, fuse_step, round_number=round_number, now_s=now_s)
    if len(encode(made)) > MAX_MANIFEST_BYTES:
        raise FederationError(
            f"the {len(made.contributions):,} contributions of {len(retraction.steps)} rounds are more than one "
            "release's manifest can name; retract what came later first"
        )
    return made


def opening_of(federation: Federation, retraction: Retraction, *, parent: ReleaseManifest, now_s: float) -> Opened:
    """Return the entry that opens a round which takes something out.

    What was trained on a release that held it is taken by no later round, however lenient it is: its base is none of
    the past ones any more.

    Args:
        federation: The federation.
        retraction: What is left out.
        parent: The last release that never held it.
        now_s: Seconds since 1970.
    """
    first = min(step.release for step in retraction.steps)
    before = _newest_opened(federation, retraction)
    return Opened(
        base_release=parent.release, base_digest=parent.model_digest, opened_at_s=now_s,
        terms=federation.reopened().settings.terms,
        past=tuple(one for one in before.past if one.base_release < first) if before else (),
        active=before.active if before else (),
        retraction=retraction,
    )  # fmt: skip


def _newest_opened(federation: Federation, retraction: Retraction) -> Opened | None:
    """Return how the round was opened that has made the release to be replaced."""
    return federation.journal(releases_of(federation)(retraction.replaces).round).state().opened
