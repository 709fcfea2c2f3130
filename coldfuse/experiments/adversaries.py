"""Methods against attacks on real data: how good the fused model is, and how often a back door opens.

Each attack is fused by each method twice: all contributions, and those that screening lets through. Scores are of
examples that nobody trained on; a back door's success is the share of them, of other classes than the target, that get
the target once they carry the trigger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfuse.core.serialization import sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.errors import FusionError
from coldfuse.experiments.adversary_parties import CLEAN, Parties
from coldfuse.experiments.adversary_screening import Screened, screened
from coldfuse.experiments.fusion_models import WEIGHTS, Accuracies, Kept, read_head
from coldfuse.experiments.fusion_training import Labelled, accuracy
from coldfuse.simulation.attacks import ATTACKS
from coldfuse.simulation.attacks.backdoor import triggered
from coldfuse.training.compute import compute_threads
from coldfuse.training.loading import load_body


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One method under one attack."""

    attack: str
    method: str
    screening: bool
    """True where only what screening let through was fused."""
    accuracy: float | None
    """Share of held-out examples that the fused model gets right; None where the method refused to fuse."""
    success: float | None
    """Share of texts with the trigger that get the target; None where the attack plants no back door."""
    reason: str = ""
    """Why nothing was fused."""


@dataclass(frozen=True, kw_only=True)
class Rejections:
    """Whom screening has rejected under one attack."""

    attack: str
    hostile_rejected: int
    hostile: int
    benign_rejected: int
    benign: int
    reasons: tuple[str, ...]
    """Why contributions were rejected, each once."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that was found."""

    num_contributors: int
    num_hostile: int
    seed: int
    base_accuracy: float
    """Accuracy of the base with the head that all start from."""
    cells: tuple[Cell, ...]
    rejections: tuple[Rejections, ...]


def try_attacks(
    parties: Parties,
    *,
    attacks: Sequence[str],
    methods: Sequence[str],
    threads: int,
    callback: Callable[[str], None],
) -> Trial:
    """Let every method fuse what every attack sends, with screening and without.

    Args:
        parties: Who contributes.
        attacks: Names of attacks, in the order of the table; the round without one comes first by itself.
        methods: Recipes.
        threads: Number of threads of torch, and of the fusion.
        callback: Called with a line about each result as it comes.
    """
    cells: list[Cell] = []
    found: list[Rejections] = []
    with compute_threads(threads):
        judge = _Judge(parties, threads)
        for attack in (CLEAN, *attacks):
            with parties.under(attack) as files, screened(parties, files, judge.executor) as admitted:
                found.append(_rejections(parties, attack, files, admitted.rejected))
                callback(f"{attack}: screening rejects {len(admitted.rejected)} of {len(files)}")
                for method in methods:
                    for cell in _cells(judge, attack, method, files, admitted):
                        callback(_line(cell))
                        cells.append(cell)
    cast = parties.cast
    return Trial(
        num_contributors=cast.num_contributors, num_hostile=cast.num_hostile, seed=cast.seed,
        base_accuracy=judge.base_accuracy(), cells=tuple(cells), rejections=tuple(found),
    )  # fmt: skip


def _cells(judge: _Judge, attack: str, method: str, files: Sequence[Path], admitted: Screened) -> Iterator[Cell]:
    is_backdoor = attack == CLEAN or ATTACKS[attack].is_backdoor
    for screening in (False, True):
        cell = partial(Cell, attack=attack, method=method, screening=screening)
        try:
            found = judge.score_screened(method, files, admitted) if screening else judge.score(method, files)
        except FusionError as error:
            yield cell(accuracy=None, success=None, reason=str(error))
            continue
        yield cell(accuracy=found["accuracy"], success=found["success"] if is_backdoor else None)


def _rejections(parties: Parties, attack: str, files: Sequence[Path], rejected: Mapping[int, str]) -> Rejections:
    is_attacked = attack != CLEAN and not ATTACKS[attack].poisons_everybody
    first_hostile = len(files) - (parties.cast.num_hostile if is_attacked else 0)
    hostile = sum(number >= first_hostile for number in rejected)
    return Rejections(
        attack=attack, hostile_rejected=hostile, hostile=len(files) - first_hostile,
        benign_rejected=len(rejected) - hostile, benign=first_hostile, reasons=tuple(dict.fromkeys(rejected.values())),
    )  # fmt: skip


class _Judge:
    """Fuses and scores; the same deltas by the same recipe are fused once, also in the next run."""

    def __init__(self, parties: Parties, threads: int) -> None:
        self._parties, self.executor = parties, ThreadExecutor(threads)
        self._kept = Kept(parties.folder / "scores.json")
        self._digests: dict[Path, str] = {}

    def score(self, method: str, files: Sequence[Path]) -> Accuracies:
        """Return accuracy and success of the model that a recipe makes of these deltas."""
        recipe = read_recipe(method)
        if not files:
            raise FusionError("screening let nothing through")
        request = FolderFusion(base=self._parties.base, models=list(files), out=Path(), recipe=recipe)
        key = " ".join([write_recipe(recipe), *sorted(map(self._digest, files))])
        return self._fused(key, lambda out: fuse_folders(replace(request, out=out), self.executor))

    def score_screened(self, method: str, files: Sequence[Path], admitted: Screened) -> Accuracies:
        """Return the same of what was admitted, which may count with a share of its length."""
        shares = admitted.shares(method)
        if all(share == 1 for share in shares.values()):  # then the round's model is that of `coldfuse fuse`
            return self.score(method, [files[number] for number in sorted(shares)])
        counted = sorted(f"{self._digest(files[number])}:{share:.12g}" for number, share in shares.items())
        key = " ".join([write_recipe(read_recipe(method)), *counted])
        return self._fused(key, lambda out: admitted.fuse(method, out))

    def _fused(self, key: str, fuse: Callable[[Path], object]) -> Accuracies:
        def fuse_and_score() -> Accuracies:
            with TemporaryDirectory(dir=self._parties.folder, prefix="fused-") as scratch:
                fuse(out := Path(scratch, "model"))
                return self._score(out)

        return self._kept.get(sha256(key.encode()), fuse_and_score)

    def _digest(self, file: Path) -> str:
        if file not in self._digests:
            with open(file, "rb") as stream:
                self._digests[file] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._digests[file]

    def base_accuracy(self) -> float:
        """Return the accuracy of the model that all start from."""
        return self._kept.get("base", lambda: self._score(self._parties.base))["accuracy"]

    def _score(self, model: Path) -> Accuracies:
        body, head = load_body(model), read_head(model / WEIGHTS)
        held_out, marked = self._scored
        return {"accuracy": accuracy(body, head, held_out), "success": accuracy(body, head, marked)}

    @cached_property
    def _scored(self) -> tuple[Labelled, Labelled]:
        length, data = self._parties.cast.training.max_length, self._parties.held_out
        return Labelled.of(data, self._parties.base, length), Labelled.of(triggered(data), self._parties.base, length)


def _line(cell: Cell) -> str:
    how = "screened" if cell.screening else "all"
    if cell.accuracy is None:
        return f"{cell.attack}, {cell.method}, {how}: refused: {cell.reason}"
    success = "" if cell.success is None else f", back door opens for {cell.success:.1%}"
    return f"{cell.attack}, {cell.method}, {how}: accuracy {cell.accuracy:.1%}{success}"
