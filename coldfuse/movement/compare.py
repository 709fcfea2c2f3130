"""Compare two models, or two releases of a federation and what was contributed between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise, starmap

from coldfuse.core.left_out import LeftOut
from coldfuse.core.names import shown
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import CodecError, ColdfuseError, NotAllowedError, UserInputError
from coldfuse.movement.deltas import Delta, Factors, factors_of, open_delta, why_unreadable
from coldfuse.movement.found import Moved, by_layer, total
from coldfuse.movement.history import History
from coldfuse.movement.measure import OnTensor, Subject, measure
from coldfuse.movement.pairs import pair_models, pair_releases
from coldfuse.movement.parts import open_parts
from coldfuse.tensors.checkpoint import open_model
from coldfuse.tensors.folders import Location


@dataclass(frozen=True, kw_only=True)
class Mover:
    """One contribution, and how much of the change goes back to it."""

    contribution: str
    """SHA-256 of its manifest."""
    contributor: str
    """Id of its contributor."""
    display_name: str | None
    release: int
    """Number of the release that it went into."""
    is_exact: bool
    """True: the shares of all add up to the change; False: how far its delta goes along the change."""
    unreadable: str | None = None
    """Why nothing is known of it; None where something is."""

    @property
    def who(self) -> str:
        """Name and id of the contributor, for people."""
        return shown(self.contributor, self.display_name)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One release on the way."""

    release: int
    moved: Moved
    """How far it is from its parent."""
    layers: Mapping[str, Moved]


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How far one model lies from another, and who moved it."""

    before: str
    """Name of the first model, for people."""
    after: str
    tensors: Mapping[str, Moved]
    """By tensor, in the order of the first model's files; tied tensors are one."""
    movers: Sequence[Mover] = ()
    """What was contributed between two releases, in order."""
    why_not: str | None = None
    """Why nothing is said of who moved it; None where something is."""
    steps: Sequence[Step] = ()
    """The releases on the way, where there are several."""
    left_out: Sequence[LeftOut] = ()
    """What only one of both has, and is not compared."""
    differing: Sequence[str] = ()
    """Names of tensors without floats that are not the same in both."""
    skipped_bytes: int = 0
    """Number of bytes that were not read: both have the same parts there."""
    read_bytes: int = 0
    """Number of bytes of parts that were read; 0 of folders, whose bytes nobody counts."""

    @cached_property
    def total(self) -> Moved:
        """How far all tensors moved together."""
        return total(self.tensors.values())

    @cached_property
    def layers(self) -> Mapping[str, Moved]:
        """How far each layer moved."""
        return by_layer(self.tensors)

    @property
    def is_exact(self) -> bool:
        """Whether the shares of all contributions add up to the change, but for what rounding dropped."""
        return bool(self.movers) and all(mover.is_exact for mover in self.movers)

    def rest(self, moved: Moved) -> float | None:
        """Return the share of some tensors' change that goes back to no contribution that was read."""
        shares = [moved.share(mover.contribution) or 0.0 for mover in self.movers]
        return 1.0 - sum(shares) if self.is_exact and moved.squares else None


def compare_models(before: Location, after: Location, *, progress: OnTensor | None = None) -> Movement:
    """Measure how far a model lies from another one.

    Args:
        before: Folder or file of the first one.
        after: The same of the second one.
        progress: Called with the elements that are done, and those of all tensors.

    Raises:
        SchemaMismatchError: They are not the same model; the message names the tensor.
        UserInputError: One of them is no model.
    """
    pair = pair_models(open_model(before), after)
    found = measure(Subject(pair=pair), progress=progress)
    return Movement(
        before=str(before), after=str(after), tensors=found.tensors, left_out=pair.left_out,
        differing=found.differing, skipped_bytes=found.skipped_bytes,
        why_not="two folders say nothing of it; compare two releases of a federation",
    )  # fmt: skip


def compare_releases(
    history: History, after: int, *, before: int | None = None, progress: OnTensor | None = None
) -> Movement:
    """Measure how far a release lies from an older one, and who moved it.

    Args:
        history: Where the releases lie.
        after: Number of the newer release.
        before: Number of the older one; None: the parent.
        progress: Called with the elements that are done, and those of all tensors; once more for each release on the
            way, where there are several.

    Raises:
        FederationError: There is no such release.
        UserInputError: They are one and the same.
        SchemaMismatchError: They do not have the same tensors.
    """
    chain, is_chain = _chain(history, after, before)
    first, last = chain[0], chain[-1]
    subject = _ends(history, first, last)
    with ExitStack() as stack:
        between = _Between(why_not=f"{_name(last)} was not made from {_name(first)}")
        if is_chain:
            between = _open_between(history, chain[1:], subject, stack)
        found = measure(replace(subject, deltas=between.deltas, factors=between.factors), progress=progress)
    is_long = is_chain and len(chain) > 2
    return Movement(
        before=_name(first), after=_name(last), tensors=found.tensors, movers=tuple(between.movers(found.unreadable)),
        why_not=between.why_not, steps=tuple(starmap(partial(_step, history, progress=progress), pairwise(chain)))
        if is_long else (),
        left_out=subject.pair.left_out, differing=found.differing, skipped_bytes=found.skipped_bytes,
        read_bytes=history.parts.read_bytes,
    )  # fmt: skip


def _name(release: ReleaseManifest) -> str:
    return f"release {release.release}"


@dataclass
class _Between:
    """What was contributed between two releases."""

    why_not: str | None = None
    deltas: list[Delta] = field(default_factory=list)
    factors: dict[int, Factors] = field(default_factory=dict)
    releases: Sequence[ReleaseManifest] = ()
    unreadable: dict[str, str] = field(default_factory=dict)

    def movers(self, more: Mapping[str, str]) -> Iterator[Mover]:
        """Say of each contribution whether it could be read."""
        unreadable = {**self.unreadable, **more}
        for release in self.releases if self.why_not is None else ():
            for one in release.contributions:
                yield Mover(
                    contribution=one.contribution, contributor=one.contributor, display_name=one.display_name,
                    release=release.release, is_exact=self.factors[release.release].is_linear,
                    unreadable=unreadable.get(one.contribution),
                )  # fmt: skip


def _ends(history: History, first: ReleaseManifest, last: ReleaseManifest) -> Subject:
    """Open two releases, and the one before both if there is one."""
    before, after = open_parts(first, history.parts), open_parts(last, history.parts)
    earlier = None
    if first.parent is not None:
        earlier = open_parts(history.release(first.parent), history.parts).places
    return Subject(pair=pair_releases(before, after), earlier=earlier)


def _open_between(
    history: History, releases: Sequence[ReleaseManifest], subject: Subject, stack: ExitStack
) -> _Between:
    """Open what was contributed to some releases; what cannot be read is named."""
    between = _Between(releases=releases)
    for release in releases:
        for fused in release.contributions:
            try:
                delta = open_delta(history, release, fused, base=subject.pair.schema, tied=subject.pair.tied)
            except NotAllowedError as error:
                return _Between(why_not=str(error))
            except ColdfuseError as error:
                between.unreadable[fused.contribution] = why_unreadable(error)
                continue
            stack.callback(delta.close)
            between.deltas.append(delta)
        has_all = all(fused.contribution not in between.unreadable for fused in release.contributions)
        between.factors[release.release] = factors_of(release, has_all=has_all)
    return between


def _step(history: History, first: ReleaseManifest, last: ReleaseManifest, *, progress: OnTensor | None) -> Step:
    found = measure(_ends(history, first, last), progress=progress)
    return Step(release=last.release, moved=total(found.tensors.values()), layers=by_layer(found.tensors))


def _chain(history: History, after: int, before: int | None) -> tuple[list[ReleaseManifest], bool]:
    """Return the releases from the older to the newer one by their parents, and whether they are one chain."""
    newest = history.release(after)
    if before is None and newest.parent is None:
        raise UserInputError(f"release {after} is the base, and has no parent to be compared with; give --to N")
    wanted = newest.parent if before is None else before
    if wanted == after:
        raise UserInputError(f"release {after} is compared with itself; give two releases: --from N --to M")
    chain = [newest]
    while chain[-1].release != wanted and chain[-1].parent is not None:
        if chain[-1].parent >= chain[-1].release:
            raise CodecError(f"release {chain[-1].release}: is said to be made from {chain[-1].parent}, a later one")
        chain.append(history.release(chain[-1].parent))
    if chain[-1].release == wanted:
        return chain[::-1], True
    return [history.release(wanted or 0), newest], False
