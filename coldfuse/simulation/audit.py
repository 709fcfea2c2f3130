"""What the store says once a simulation is over: every acknowledged contribution, its verdicts, and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from coldfuse.core.round import EVENT, Admitted, Rejected
from coldfuse.core.serialization import decode_any
from coldfuse.registry.federation import Federation
from coldfuse.storage.base import ObjectStore, list_keys


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Acknowledged contributions, as the journals know them."""

    num_acknowledged: int
    num_admitted: int
    num_rejected: int
    num_without_verdict: int
    """Acknowledged and lost: 0, or a promise is broken."""
    num_with_two: int
    """With more than one verdict: 0, or a promise is broken."""
    reasons: dict[str, int]
    """Reasons of rejections with how often each was given; what differs from one to the next is left out."""

    @property
    def is_whole(self) -> bool:
        """True where every acknowledged contribution has exactly one verdict."""
        return not self.num_without_verdict and not self.num_with_two


def audit(federation: Federation, acknowledged: Collection[str]) -> Audit:
    """Look up the verdicts of acknowledged contributions in all rounds: under some rules a late one comes to the next.

    Args:
        federation: The federation.
        acknowledged: Digests of the contributions.
    """
    wanted = set(acknowledged)
    verdicts: Counter[str] = Counter()
    admitted: set[str] = set()
    reasons: Counter[str] = Counter()
    for number in range(1, federation.current_round() + 1):
        for kind, contribution, reason in _verdicts(federation.store, number):
            if contribution in wanted:
                verdicts[contribution] += 1
                if kind is Admitted:
                    admitted.add(contribution)
                else:
                    reasons[_in_general(reason)] += 1
    return Audit(
        num_acknowledged=len(wanted), num_admitted=len(admitted), num_rejected=len(verdicts.keys() - admitted),
        num_without_verdict=len(wanted - verdicts.keys()), num_with_two=sum(n > 1 for n in verdicts.values()),
        reasons=dict(reasons.most_common(12)),
    )  # fmt: skip


def count_files(store: ObjectStore) -> int:
    """Return the number of objects in a store."""
    return sum(1 for _ in list_keys(store, ""))


def _verdicts(store: ObjectStore, number: int) -> Iterator[tuple[type[Admitted] | type[Rejected], str, str]]:
    for key in list_keys(store, f"rounds/{number:05d}/journal/"):
        if key.endswith(("-admitted", "-rejected")):
            match decode_any(EVENT, store.get(key), what=key):
                case Admitted(admissions=admissions):
                    yield from ((Admitted, a.contribution, a.reason) for a in admissions)
                case Rejected(rejections=rejections):
                    yield from ((Rejected, r.contribution, r.reason) for r in rejections)


def _in_general(reason: str) -> str:
    """Return a reason without names, digests and numbers, so that those of a thousand contributors are a few."""
    words = ["…" if any(letter.isdigit() for letter in word) else word for word in reason.split()]
    return " ".join(words)[:160]
