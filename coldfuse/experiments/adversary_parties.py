"""Contributors that fine-tune parts of one real task, and what hostile ones among them send; kept from run to run.

The head that all start from lies among the base's tensors, so that it is fused like the body: the fused model answers
by itself, and a back door can be opened in it. Nobody has another's example. Everybody is trained once as it should be;
whoever an attack makes hostile has an honest delta, too, which many attacks begin with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from coldfuse.data.dataset import TextDataset, split
from coldfuse.errors import UserInputError
from coldfuse.experiments.fusion_data import deal, sample
from coldfuse.experiments.fusion_models import WEIGHTS, head_tensors, publish, read_head, read_tensors, write_model
from coldfuse.experiments.fusion_training import Labelled, Training, fit_head, mean_head, train
from coldfuse.simulation.attacks import ATTACKS, Attack, Knowledge, Rows
from coldfuse.tensors.changes import ChangesByName, DenseChange, write_changes
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.training.delta import write_delta
from coldfuse.training.loading import load_body
from coldfuse.training.schedule import derive_seed

CLEAN = "none"
"""Name of the round in which nobody is hostile."""


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who contributes, and how they train."""

    num_contributors: int = 8
    num_hostile: int = 2
    num_examples: int = 300
    """Examples of each contributor."""
    num_held_out: int = 400
    """Examples that nobody trains on, at most; the fused model is scored on them."""
    training: Training = field(default_factory=lambda: Training(num_epochs=2, learning_rate=2e-4, max_length=48))
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Parties:
    """The contributors of one task; their deltas are made when they are asked for, and kept in `folder`."""

    cast: Cast
    folder: Path
    base: Path
    """Folder of the model that all start from, with the head among its tensors."""
    data: Sequence[TextDataset]
    """Each contributor's examples; the hostile ones come last."""
    held_out: TextDataset

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The base's files."""
        return open_checkpoint(self.base)

    @cached_property
    def model_digest(self) -> str:
        """The base's digest, which every delta names."""
        return self.checkpoint.digest()

    def honest(self, number: int) -> Path:
        """Return the file of what a contributor's honest training made."""
        return self._trained(number, CLEAN, self.data[number])

    @contextmanager
    def under(self, attack: str) -> Iterator[list[Path]]:
        """Yield the files of what all contributors send, hostile ones last; made-up deltas are removed afterwards."""
        if attack == CLEAN:
            yield [self.honest(number) for number in range(len(self.data))]
            return
        how = ATTACKS[attack]
        num_benign = 0 if how.poisons_everybody else len(self.data) - self.cast.num_hostile
        files = [self.honest(number) for number in range(num_benign)]
        own = [self._own(number, how) for number in range(num_benign, len(self.data))]
        if how.craft is None:
            yield [*files, *own]
            return
        known = Knowledge(benign_CN=self._rows(files), own_FN=self._rows(own), seed=derive_seed(self.cast.seed, attack))
        with TemporaryDirectory(dir=self.folder, prefix=f"{attack}-") as scratch:
            sent = how.craft(known)
            del known
            yield [
                *files,
                *(self._write(Path(scratch, f"{number}.safetensors"), row) for number, row in enumerate(sent)),
            ]

    def _own(self, number: int, how: Attack) -> Path:
        if how.poison is None:
            return self.honest(number)
        seed = derive_seed(self.cast.seed, "poison", str(number))
        return self._trained(number, how.poison.__name__, how.poison(self.data[number], seed))

    def _trained(self, number: int, kind: str, data: TextDataset) -> Path:
        path = self.folder / f"party-{number}-{kind}.safetensors"
        if not path.exists():
            settings, start = self.cast.training, read_head(self.base / WEIGHTS)
            labelled = Labelled.of(data, self.base, settings.max_length)
            seed = derive_seed(self.cast.seed, f"party-{number}")
            tensors, tuned = train(self.base, start, labelled, settings, seed=seed)
            tensors |= head_tensors(tuned)
            write_delta(path, self.checkpoint, tensors, encoding="F32", base_digest=self.model_digest)
        return path

    def _names(self) -> list[str]:
        return sorted(name for name, spec in self.checkpoint.schema.items() if spec.is_fused)

    def _rows(self, files: Sequence[Path]) -> Rows:
        schema = self.checkpoint.schema
        rows = np.zeros((len(files), sum(schema[name].num_elements for name in self._names())), np.float32)
        for row, file in zip(rows, files, strict=True):
            tensors, first = read_tensors(file), 0
            for name in self._names():
                count = schema[name].num_elements
                if name in tensors:
                    row[first : first + count] = tensors[name].numpy().reshape(-1)
                first += count
        return rows

    def _write(self, path: Path, row: NDArray[np.float32]) -> Path:
        schema = self.checkpoint.schema
        counts = [schema[name].num_elements for name in self._names()]
        starts = dict(zip(self._names(), np.cumsum([0, *counts[:-1]]), strict=True))

        def read(name: str, first: int, count: int) -> NDArray[np.float64]:
            return row[starts[name] + first : starts[name] + first + count].astype(np.float64)

        changes = ChangesByName(self._names(), lambda name: DenseChange(partial(read, name)))
        write_changes(path, schema, changes, dtype="F32", base_digest=self.model_digest)
        return path


def gather(data: TextDataset, base: Path, work: Path, cast: Cast) -> Parties:
    """Set examples apart, deal out the others, and fit the head that all start from.

    Args:
        data: Examples of one task.
        base: Model folder of the pretrained body.
        work: Folder that keeps what is trained.
        cast: Who contributes, and how.

    Raises:
        UserInputError: The examples are too few, or hardly anybody is left who is not hostile.
    """
    if not 0 <= cast.num_hostile < cast.num_contributors:
        raise UserInputError(f"{cast.num_hostile} of {cast.num_contributors} contributors cannot be hostile")
    known = [asdict(cast) | {"num_hostile": None}, data.digest(), str(base)]
    folder = work / hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    rest, held_out = split(data, validation_fraction=0.2, seed=cast.seed)
    parts = deal(rest, num_parties=cast.num_contributors, num_each=cast.num_examples, main_share=0.0, seed=cast.seed)
    held_out = sample(held_out, cast.num_held_out, seed=cast.seed)
    if not (start := folder / "base").exists():
        body = load_body(base)
        labelled = [Labelled.of(part, base, cast.training.max_length) for part in parts]
        head = mean_head([fit_head(body, part, data.num_classes) for part in labelled])
        write_model(folder / "base.part", base, head_tensors(head))
        publish(folder / "base.part", start)
    return Parties(cast=cast, folder=folder, base=start, data=parts, held_out=held_out)
