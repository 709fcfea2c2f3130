"""The leader's entries of one round, in their places, as one reader knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coldfuse.core.round import Admitted, LeaderEvent, Opened, Rejected, RoundState, fold
from coldfuse.core.serialization import encode
from coldfuse.errors import ChainError
from coldfuse.registry.chain import Head, Written


@dataclass
class LedEntries:
    """Grows at its end. Where entries are signed, each is held against the one before it."""

    round: int
    """Number of the round."""
    entries: list[LeaderEvent | None] = field(default_factory=list)
    """The entries; None: the one in this place is lost."""
    digests: list[str | None] = field(default_factory=list)
    """Digests of their links; None where nothing is signed, or it is lost."""
    state: RoundState = field(default_factory=RoundState)
    """What they add up to."""
    generation: int = 0
    """Newest root that names a key by which one of them is signed."""
    signers: set[str] = field(default_factory=set)
    """Ids of the keys by which they are signed."""
    _verdicts: dict[str, int] = field(default_factory=dict)
    _indexed: int = 0

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.entries)

    def last(self, *, is_abandoned: bool) -> Head | None:
        """Return the last entry that can be read, in the place of the last that is there; None if there is none."""
        entry = next((entry for entry in reversed(self.entries) if entry is not None), None)
        return None if entry is None else Head(seq=len(self) - 1, entry=entry, is_abandoned=is_abandoned)

    def ends_with(self, head: Head) -> bool:
        """Tell whether the last entry is the one that a head announces."""
        return [entry and encode(entry) for entry in self.entries[head.seq :]] == [encode(head.entry)]

    def learn(self, written: Sequence[Written | None]) -> None:
        """Take the next entries.

        An entry that a later one passes over counts as lost, too: who wrote that had not seen it, and has decided anew
        what it said.

        Raises:
            ChainError: One is not the successor of any before; nothing of these was taken.
        """
        digests = [*self.digests, *(one.digest if one else None for one in written)]
        generation, lost = self.generation, set[int]()
        for place, one in enumerate(written, len(self)):
            if one is not None:
                lost |= self._passed_over(one, digests[:place], generation)
                generation = max(generation, one.generation)
        new = [one.head.entry if one else None for one in written]
        entries = [None if place in lost else entry for place, entry in enumerate([*self.entries, *new])]
        self.digests = [None if place in lost else digest for place, digest in enumerate(digests)]
        self.generation, self.entries = generation, entries
        self.signers |= {one.signer for one in written if one is not None and one.signer is not None}
        self._fold(entries if lost else new, onto=RoundState() if lost else self.state)

    def find(self, written: Written) -> bool:
        """Take an entry whose own object is lost, from the head that has announced it; False if it is not lost.

        Raises:
            ChainError: Another link than this is in its place.
        """
        place = written.head.seq
        if self.entries[place] is not None:
            if written.digest != self.digests[place]:
                raise ChainError(
                    f"round {self.round}: the head is {str(written.digest)[:12]}, and entry {place} is "
                    f"{str(self.digests[place])[:12]}; somebody has put one of them there"
                )
            return False
        self.entries[place], self.digests[place] = written.head.entry, written.digest
        self.signers |= {written.signer} if written.signer is not None else set()
        self._fold(self.entries, onto=RoundState())
        return True

    def verdict_on(self, contribution: str) -> Head | None:
        """Return the entry with the verdict on a contribution, in its place: a rejection counts more than others."""
        for place in range(self._indexed, len(self)):
            self._index(place)
        self._indexed = len(self)
        found = self._verdicts.get(contribution)
        entry = None if found is None else self.entries[found]
        return Head(seq=found, entry=entry) if found is not None and entry is not None else None

    def last_digest(self, place: int) -> str | None:
        """Return the digest of the last link before a place that is not lost; None if there is none."""
        return next((digest for digest in reversed(self.digests[:place]) if digest is not None), None)

    def _index(self, place: int) -> None:
        entry = self.entries[place]
        if isinstance(entry, Rejected):
            self._verdicts |= dict.fromkeys((one.contribution for one in entry.rejections), place)
        elif isinstance(entry, Opened | Admitted):
            admissions = entry.carried if isinstance(entry, Opened) else entry.admissions
            new = (one.contribution for one in admissions if one.contribution not in self.state.rejected)
            self._verdicts |= dict.fromkeys(new, place)

    def _passed_over(self, one: Written, digests: Sequence[str | None], generation: int) -> set[int]:
        """Hold an entry against those before it, and return the places that it passes over."""
        place = len(digests)
        if one.digest is None or not digests:
            return set()
        what = f"round {self.round}, entry {one.head.seq} ({one.head.entry.event})"
        if one.generation < generation:
            raise ChainError(f"{what}: is signed by a key that had been replaced before; somebody has put it there")
        if digests[-1] in (None, one.before):  # where the one before is lost, nobody can say
            return set()
        if one.before is None or one.before not in digests:
            raise ChainError(
                f"{what}: comes after {(one.before or 'nothing')[:12]}, and before it lies {(digests[-1] or '')[:12]}; "
                "somebody has put it there, or taken another away"
            )
        return set(range(digests.index(one.before) + 1, place))

    def _fold(self, entries: Sequence[LeaderEvent | None], *, onto: RoundState) -> None:
        self.state = fold((entry for entry in entries if entry is not None), onto=onto)
