"""What an aggregator's screening makes of a round's deltas, and the model that it fuses of what it admits.

A federation in a folder, its journal and the aggregator's own rules: nothing here decides. Contributions arrive in the
order of the parties, so that who copies comes after whom it has copied.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfuse.aggregator.judging import judge, settle
from coldfuse.aggregator.model import Base, open_base
from coldfuse.aggregator.release import fuse_release
from coldfuse.aggregator.standing import standing
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.round import Opened, Received
from coldfuse.core.serialization import blob_digest
from coldfuse.engine.execution import Executor
from coldfuse.engine.recipes import read_recipe
from coldfuse.experiments.adversary_parties import Parties
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.parts import plan_parts
from coldfuse.tensors.tensor_file import read_file_header

_NUM_STEPS = 1000
"""Optimiser steps that every manifest claims; only a number of examples without steps would be looked at."""


@dataclass(frozen=True)
class Screened:
    """A round's deltas, judged."""

    federation: Federation
    base: Base
    executor: Executor
    admissions: dict[int, Admission]
    """What was admitted, by the place of its file."""
    rejected: dict[int, str]
    """Why the others were not."""

    def shares(self, method: str) -> dict[int, float]:
        """Return the share of each admitted delta's length that is taken."""
        counted = standing(
            self.admissions.values(), read_recipe(method), self.federation.settings.screening, self.base.release.norms
        )
        by_contribution = {each.admission.contribution: each.share for each in counted}
        return {number: by_contribution[a.contribution] for number, a in self.admissions.items()}

    def fuse(self, method: str, out: Path) -> None:
        """Write the model that the aggregator makes of what it admitted into a new folder."""
        settings = self.federation.settings.model_copy(update={"method": method})
        manifest = fuse_release(
            replace(self.federation, settings=settings), self.base, list(self.admissions.values()), self.executor,
            round_number=1, now_s=0.0,
        )  # fmt: skip
        for name, blob in manifest.files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(self.federation.objects.open(blob).read(0, blob.size_bytes))


@contextmanager
def screened(parties: Parties, files: Sequence[Path], executor: Executor) -> Iterator[Screened]:
    """Judge deltas as one round's contributions; the store that they are put into is removed afterwards.

    Args:
        parties: Whose deltas they are.
        files: The deltas, in the order in which they arrive.
        executor: Runs the tasks that screen and fuse.
    """
    with TemporaryDirectory(dir=parties.folder, prefix="screening-") as scratch:
        federation = create_federation(
            LocalStore(scratch), name="adversaries", base=parties.base, origin="adversaries", method="mean",
            rules={"quorum": len(files), "deadline_s": 3600.0},
        )  # fmt: skip
        base, journal = open_base(federation, federation.latest()), federation.journal(1)
        opened = Opened(
            base_release=0, base_digest=base.release.model_digest, opened_at_s=0.0, terms=federation.settings.terms,
            sketch_seed=secrets.token_hex(16),
        )  # fmt: skip
        journal.append(opened)
        numbers = {_receive(federation, base, file, number): number for number, file in enumerate(files)}
        while new := judge(federation, base, executor, round_number=1, state=journal.state(), opened=opened):
            for event in new:
                journal.append(event)
        for event in settle(base, journal.state(), opened):
            journal.append(event)
        state = journal.state()
        yield Screened(
            federation, base, executor,
            admissions={numbers[digest]: admission for digest, admission in state.admitted.items()},
            rejected={numbers[digest]: rejection.reason for digest, rejection in state.rejected.items()},
        )  # fmt: skip


def _receive(federation: Federation, base: Base, file: Path, number: int) -> str:
    """Put a delta into the store as a gateway does, and return its contribution's digest."""
    with open(file, "rb") as stream:
        layouts = plan_parts(read_file_header(file))
        delta = Blob(parts=tuple(put_part(stream.read(part.size_bytes), federation.objects.put) for part in layouts))
    manifest = ContributionManifest(
        federation=federation.settings.federation, contributor=f"party-{number:02d}", round=1, base_release=0,
        base_digest=base.release.model_digest, encoding="F32", num_examples=_NUM_STEPS, num_steps=_NUM_STEPS,
        delta=delta, delta_digest=blob_digest(delta),
    )  # fmt: skip
    digest = federation.objects.put_value(manifest)
    received = Received(contribution=digest, contributor=manifest.contributor, received_at_s=float(number))
    federation.journal(1).receive(received)
    return digest
