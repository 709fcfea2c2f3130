"""Every object read once, several at a time, in bounded memory."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from coldfuse.doctor.findings import Finding, Garbage, Report
from coldfuse.doctor.named import Named
from coldfuse.doctor.repair import Repair
from coldfuse.doctor.sources import Source
from coldfuse.errors import DamagedObjectError
from coldfuse.registry.damage import DAMAGED, find_damage
from coldfuse.registry.federation import Federation
from coldfuse.registry.inventory import Need, needs
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.tensors.checks import checks_of, list_bytes, list_starts
from coldfuse.tensors.rereading import get_verified

PARALLEL = 8
"""Number of objects that are read at a time, each 4 MiB at a time."""

_MAX_NEEDED_BY = 5
"""Number of things that a damaged object is needed by that are named."""

_EXAMPLES = 10

_MAX_TURNS = 5
"""Number of times that a store is examined while each time brings something back."""


@dataclass
class Examination:
    """Looks at a store, and repairs it if it is asked to."""

    federation: Federation
    sources: tuple[Source, ...] = ()
    """Where sound bytes may come from, beside the store itself."""
    repairs: bool = False
    """True to bring back what can be."""
    _seen: set[bytes] = field(default_factory=set)
    """Digests of what was read; 32 bytes each, as a store may hold a million."""
    _num_bytes: int = 0

    def run(self) -> Report:
        """Examine everything; what can be repaired is repaired, if it shall be.

        A manifest that was brought back names what nobody knew of before, so that is looked at in turn.

        Raises:
            StorageError: The store, or one that repairs come from, is away.
        """
        found: dict[str, Finding] = {}
        for _ in range(_MAX_TURNS if self.repairs else 1):
            turn = {finding.key: finding for finding in self._turn()}
            mended = {key: one for key, one in found.items() if one.repaired and key not in turn}
            found = mended | turn
            if not any(finding.repaired for finding in turn.values()):
                break
        return Report(
            num_objects=len(self._seen),
            num_bytes=self._num_bytes,
            findings=tuple(found[key] for key in sorted(found)),
            garbage=self._garbage(),
        )

    def _turn(self) -> list[Finding]:
        self._seen, self._num_bytes = set(), 0
        repair = Repair(self.federation, self.sources)
        named = list(Named(self.federation).findings())
        if self.repairs:  # first: what the journal says decides what else is needed
            named = [repair.named(finding) for finding in named]
        damaged = dict(self._damaged())
        by = self._needed_by(set(damaged)) if damaged else {}
        objects = []
        for key, (need, why) in sorted(damaged.items()):
            finding = Finding(key=key, why=why, needed_by=tuple(by.get(key, [need.by])[:_MAX_NEEDED_BY]))
            objects.append(repair.object(finding, need) if self.repairs else finding)
        return [self._advised(finding, damaged) for finding in (*named, *objects)]

    def _damaged(self) -> Iterator[tuple[str, tuple[Need, str]]]:
        todo = self._new_needs()
        with ThreadPoolExecutor(PARALLEL, "doctor") as pool:
            while batch := list(islice(todo, 8 * PARALLEL)):
                for need, why in zip(batch, pool.map(self._why_damaged, batch), strict=True):
                    if why is not None:
                        yield need.key, (need, why)

    def _new_needs(self) -> Iterator[Need]:
        for need in needs(self.federation):
            name = bytes.fromhex(need.digest)
            if name not in self._seen:
                self._seen.add(name)
                self._num_bytes += need.size_bytes or 0
                yield need

    def _why_damaged(self, need: Need) -> str | None:
        store = self.federation.store
        if need.checked is None:
            return find_damage(store, need.digest, need.size_bytes)
        return why_checks_damaged(store, need)

    def _needed_by(self, keys: set[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for need in needs(self.federation):
            if need.key in keys and need.by not in found[need.key]:
                found[need.key].append(need.by)
        return found

    def _advised(self, finding: Finding, damaged: dict[str, tuple[Need, str]]) -> Finding:
        if finding.repaired is not None or finding.advice:
            return finding
        need = damaged.get(finding.key, (None, ""))[0]
        return replace(finding, advice=Repair.advice(finding.key, need, repairs=self.repairs))

    def _garbage(self) -> Garbage:
        store = self.federation.store
        count, size, examples = 0, 0, list[str]()
        for prefix in ("objects/", "checks/", DAMAGED):
            for key in list_keys(store, prefix):
                name = key.rpartition("/")[2]
                with contextlib.suppress(ValueError):
                    if prefix != DAMAGED and bytes.fromhex(name) in self._seen:
                        continue
                info = store.head(key)
                count, size = count + 1, size + (info.size_bytes if info else 0)
                examples += [key] if len(examples) < _EXAMPLES else []
        return Garbage(num_objects=count, num_bytes=size, examples=tuple(examples))


def why_checks_damaged(store: ObjectStore, need: Need) -> str | None:
    """Return what is wrong with the checks of a file, read anew; None: nothing."""
    blob, checks = need.checked, checks_of(need.checked, need.digest) if need.checked else None
    if blob is None or checks is None:
        return None
    try:
        head = get_verified(store, checks.key, checks.is_head, length=checks.head_bytes)
        for index, (part, start) in enumerate(zip(blob.parts, list_starts(blob), strict=False)):
            is_right = partial(checks.is_list, head, index)
            get_verified(store, checks.key, is_right, start=checks.start + start, length=list_bytes(part.size_bytes))
    except DamagedObjectError as error:
        return str(error).partition("is damaged: ")[2].partition(";")[0]
    return None
