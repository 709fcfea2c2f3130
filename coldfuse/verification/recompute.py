"""Fusing a release again, from its stored parent and contributions, by the method and the rules that are recorded.

Nothing is believed but bytes that have the SHA-256 that they are named by, and what contributors and operators have
signed: what an aggregator has measured of a contribution is measured again, by the same screening, and what it has
fused is fused again, by the same function. Nothing is written. Where a method cuts changes to a rank (shared modules),
the last bits are those of the machine's own linear algebra: the same machine gives the same bytes, another may not.
"""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import Field

from coldfuse.aggregator.judging import screening_of
from coldfuse.aggregator.model import Base, open_base
from coldfuse.aggregator.release import fuse_again
from coldfuse.aggregator.replay import Again, Replay, steps_between
from coldfuse.aggregator.screen import screen
from coldfuse.core.contribution import Admission, Measured
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.retraction import RetractedStep
from coldfuse.core.round import Opened, RoundState
from coldfuse.core.value import Value
from coldfuse.engine.execution import Executor
from coldfuse.engine.tied import find_tied
from coldfuse.engine.variances import find_variances
from coldfuse.errors import ColdfuseError, DamagedObjectError, FederationError, FusionError
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import object_key
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.registry.tombstones import Graveyard
from coldfuse.storage import LocalStore, ObjectStore
from coldfuse.tensors.checkpoint import open_release
from coldfuse.verification.differences import first_difference
from coldfuse.verification.findings import Recomputed
from coldfuse.verification.journals import SeenRound
from coldfuse.verification.releases import SeenRelease

_CHUNK_BYTES = 4 << 20
"""Number of bytes of a file that are copied at a time."""

_RELATIVE = 1e-6
"""By how much a length may differ that is measured on another machine."""

_FACTS = (
    "contributor",
    "display_name",
    "delta_digest",
    "num_examples",
    "score",
    "base_release",
    "statistics",
    "checks",
    "edit",
)


class _Sent(Value):
    """What a contribution's manifest says of where it was sent."""

    round: Annotated[int, Field(strict=False)]


class _CannotError(ColdfuseError):
    """A release cannot be fused again, which is no fault of it."""


class _DiffersError(ColdfuseError):
    """Something is not what an aggregator has made of it."""


@dataclass(frozen=True, kw_only=True)
class Recomputing:
    """What is needed to fuse releases again."""

    federation: Federation
    rounds: Mapping[int, SeenRound]
    """The rounds by their numbers, as their journals have them."""
    executor: Executor
    releases: Mapping[int, SeenRelease] = field(default_factory=dict)
    """The releases that were looked at, by their numbers: what was retracted is followed through them."""

    def again(self, release: SeenRelease, parent: SeenRelease) -> Recomputed:
        """Fuse a release again, and say whether the same comes out."""
        agrees: bool | None = True
        why = ""
        try:
            self._require_same(release, parent)
        except _DiffersError as error:
            agrees, why = False, str(error)
        except FusionError as error:
            agrees, why = False, f"the method refuses these contributions: {error}"
        except (_CannotError, FederationError) as error:
            agrees, why = None, str(error)
        except ColdfuseError as error:
            agrees, why = None, f"something that is needed for it is missing or damaged: {error}"
        return Recomputed(release=release.number, manifest=release.digest, agrees=agrees, why=why)

    def _require_same(self, release: SeenRelease, parent: SeenRelease) -> None:
        round_ = self.rounds.get(release.manifest.round)
        opened, closed = (round_.state.opened, round_.state.closed) if round_ else (None, None)
        if round_ is None or opened is None or closed is None:
            raise _CannotError(f"the journal of round {release.manifest.round}, which has made it, is not there")
        if opened.terms is None:
            raise _CannotError("an older version has opened its round, and has not said by which method and rules")
        if (opened.base_release, opened.base_digest) != (parent.number, parent.manifest.model_digest):
            raise _DiffersError(f"its round was opened on release {opened.base_release}, its parent is {parent.number}")
        base = open_base(self.federation, _unchecked(parent.manifest), number=release.number)
        if release.manifest.retraction is not None or opened.retraction is not None:
            self._require_retracted(release.manifest, base, opened, round_number=round_.number)
            return
        admissions = list(round_.state.to_fuse.values())
        self._screen_again(admissions, base)
        manifest, fused = fuse_again(
            self.federation.under(opened.terms), base, admissions, self.executor, round_number=round_.number
        )
        if why := first_difference(self.federation, release.manifest, manifest, fused.blocks):
            raise _DiffersError(why)

    def _require_retracted(self, release: ReleaseManifest, parent: Base, opened: Opened, *, round_number: int) -> None:
        """Fuse all rounds again that a release with something taken out was made from, each on the one before it."""
        retraction = release.retraction
        if retraction is None or opened.retraction != retraction:
            raise _DiffersError("it says of what was retracted something else than its round")
        steps = steps_between(
            self._release, replaces=retraction.replaces, parent=parent.release.release, left_out=retraction.left_out
        )
        if steps != retraction.steps:
            raise _DiffersError(
                f"it was made from the rounds {_rounds(retraction.steps)}, and what it replaces follows from "
                f"{_rounds(steps)}"
            )
        replay = Replay(retraction=retraction, state_of=self._state, release_of=self._release)
        with TemporaryDirectory(prefix="coldfuse-verify-") as folder:
            again = _Again(self, Path(folder), release)
            made = replay.run(parent, again.fuse_step, round_number=round_number, now_s=release.created_at_s)
        if why := first_difference(self.federation, release, made, again.blocks):
            raise _DiffersError(why)

    def _state(self, number: int) -> RoundState:
        if number not in self.rounds:
            raise _CannotError(f"the journal of round {number}, which is fused again, is not there")
        return self.rounds[number].state

    def _release(self, number: int) -> ReleaseManifest:
        if number not in self.releases:
            raise _CannotError(f"release {number}, which was replaced as something was retracted, is not there")
        return self.releases[number].manifest

    def _screen_again(self, admissions: Sequence[Admission], base: Base) -> None:
        """Measure what was admitted once more: what it counts follows from that."""
        for number, some in self._by_round(admissions).items():
            opened = self.rounds[number].state.opened if number in self.rounds else None
            if opened is None:
                raise _CannotError(f"the journal of round {number}, which has screened some of it, is not there")
            screening = screening_of(self.federation.store.url, base, round_number=number, opened=opened)
            items = [(admission.contribution, admission.contributor) for admission in some]
            for index, found in self.executor.run(screen, replace(screening, is_dry=True), items):
                if not isinstance(found, Admission):
                    raise _DiffersError(f"{_who(some[index])} was admitted, and has to be rejected: {found.reason}")
                if why := next(_differences(found, some[index]), None):
                    raise _DiffersError(f"{_who(some[index])}: {why}")

    def _by_round(self, admissions: Sequence[Admission]) -> Mapping[int, list[Admission]]:
        """Sort contributions by the round that has screened them: what is carried was admitted in an earlier one."""
        found: dict[int, list[Admission]] = defaultdict(list)
        graves = Graveyard(self.federation)
        for admission in admissions:
            if not self.federation.objects.is_there(admission.contribution) and graves.covers(admission.contribution):
                raise _CannotError(f"{_who(admission)} was retracted since, and erased")
            sent = self.federation.objects.get_value(_Sent, admission.contribution)
            found[sent.round].append(admission)
        return found


@dataclass
class _Again:
    """Fuses the rounds of a retraction again, in a folder of its own."""

    recomputing: Recomputing
    scratch: Path
    release: ReleaseManifest
    blocks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Block digests of each tensor that came out last."""

    def fuse_step(self, again: Again, base: Base) -> tuple[ReleaseManifest, Base]:
        """Screen and fuse one round again; what comes out lies in the folder until the next one is made of it."""
        federation, executor = self.recomputing.federation, self.recomputing.executor
        self.recomputing._screen_again(again.admissions, self._base_of_then(again, base))
        into = None if again.is_last else self._scratch_store(again.step.round)
        made, fused = fuse_again(
            federation.under(again.terms), base, again.admissions, executor, round_number=again.step.round, into=into
        )
        self.blocks = fused.blocks
        if base.store_url is not None:
            shutil.rmtree(base.store_url, ignore_errors=True)
        return made, base if into is None else _in_scratch(federation, into, made)

    def _scratch_store(self, number: int) -> ObjectStore:
        """Return a store for what a round makes; those who read it look for the federation in it first."""
        store = LocalStore(self.scratch / f"{number:05d}")
        store.put_if_absent(SETTINGS_KEY, self.recomputing.federation.store.get(SETTINGS_KEY))
        return store

    def _base_of_then(self, again: Again, base: Base) -> Base:
        """Return the base that a round's contributors had: what their deltas change of it was measured against that.

        Where its files are not there, the one that takes its place does, if deltas are judged by themselves: changes of
        a module's factors and of running variances are not.
        """
        then = self.recomputing.releases.get(again.base_release)
        try:
            if then is not None:
                return open_base(self.recomputing.federation, _unchecked(then.manifest))
        except DamagedObjectError:
            pass
        if base.release.module is not None or find_variances(base.checkpoint):
            raise _CannotError(f"release {again.base_release}, which what was contributed is judged by, is not there")
        return base


def _in_scratch(federation: Federation, store: ObjectStore, made: ReleaseManifest) -> Base:
    """Return what was made as a base; the files beside the tensors, such as the configuration, are the parent's."""
    for path, blob in made.files.items():
        for part in blob.parts if not path.endswith(".safetensors") else ():
            with store.open_writer(object_key(part.digest)) as writer:  # whoever reads it verifies it
                for start in range(0, part.size_bytes, _CHUNK_BYTES):
                    writer.write(federation.store.get(object_key(part.digest), start=start, length=_CHUNK_BYTES))
                writer.commit()
    checkpoint = open_release(store.url, made)
    return Base(made, checkpoint, find_tied(checkpoint), store_url=store.url)


def _rounds(steps: Sequence[RetractedStep]) -> str:
    return ", ".join(f"{step.round} ({step.num_fused})" for step in steps)[:200] or "none"


def _unchecked(release: ReleaseManifest) -> ReleaseManifest:
    """Return a release without its checks: an aggregator has made them, so parts are verified by their own names."""
    outer = release.outer.model_copy(update={"checks": {}}) if release.outer else None
    return release.model_copy(update={"checks": {}, "outer": outer})


def _differences(found: Admission, recorded: Admission) -> Iterator[str]:
    for name in _FACTS:
        mine, theirs = getattr(found, name), getattr(recorded, name)
        if mine != theirs and not (name == "checks" and theirs is None):
            yield f"its {name.replace('_', ' ')} is {_short(mine)}, and the journal says {_short(theirs)}"
    if recorded.is_named and not found.is_named:
        yield "its contributor has not agreed to be named, and the journal says so"
    if recorded.measured is not None and not _alike(found.measured, recorded.measured):
        yield f"it measures {_length(found.measured)}, and the journal says {_length(recorded.measured)}"


def _alike(mine: Measured | None, theirs: Measured) -> bool:
    """Compare what decides how much a contribution counts; sketches only tell copies."""
    if mine is None or mine.kind != theirs.kind or len(mine.layers) != len(theirs.layers):
        return False
    pairs = zip((mine.norm, mine.largest, *mine.layers), (theirs.norm, theirs.largest, *theirs.layers), strict=True)
    return mine.num_changed == theirs.num_changed and all(math.isclose(a, b, rel_tol=_RELATIVE) for a, b in pairs)


def _length(measured: Measured | None) -> str:
    return f"a length of {measured.norm:g} ({measured.kind})" if measured else "nothing"


def _short(value: object) -> str:
    return str(value)[:80]


def _who(admission: Admission) -> str:
    return f"the contribution of {admission.contributor} ({admission.contribution[:12]})"
