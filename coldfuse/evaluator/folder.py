"""What an evaluator keeps, so that `kill -9` costs no work, and no candidate is answered twice.

    answers/00012-<manifest>.json  the signed counts on a candidate of round 12, before they are handed in
    outcomes/<model>-<suite>.f8    how well a base does on each example of a suite; private

Noise is drawn once for a candidate: whoever could ask again and again would average it away.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from coldfuse.consumer import hold
from coldfuse.durable import explained, make_folder, write_whole
from coldfuse.evaluation.measured import Outcomes
from coldfuse.evaluation.suites import Suite
from coldfuse.trust.score import MAX_SCORE_BYTES

_ANSWER = re.compile(r"([0-9]{5,15})-([0-9a-f]{64})\.json")
_DIGEST_BYTES = 32
"""Length of the SHA-256 that numbers begin with, as a disk may damage them."""

_KEPT_OUTCOMES = 64
"""Files of outcomes that are kept: of some bases, for some suites."""


class EvaluatorFolder:
    """An evaluator's folder; only its owner may enter it."""

    def __init__(self, path: Path) -> None:
        """Make it, if there is none. Raises `UserInputError` where it cannot be written."""
        self.path = path
        with explained(path):
            for folder in (path, path / "answers", path / "outcomes"):
                make_folder(folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out. Raises `UserInputError` while one is in."""
        with hold(self.path, hint="another evaluator runs here; stop it, or give --work another folder"):
            yield

    def answer(self, manifest: str) -> bytes | None:
        """Return what was signed of a candidate; None if it was not answered yet, or the file is broken."""
        for path in (self.path / "answers").glob(f"*-{manifest}.json"):
            data = path.read_bytes()
            return data if len(data) <= MAX_SCORE_BYTES else None
        return None

    def keep_answer(self, round_number: int, manifest: str, envelope: bytes) -> None:
        """Keep what was signed of a candidate, before anybody gets it."""
        write_whole(self.path / "answers" / f"{round_number:05d}-{manifest}.json", envelope)

    def rounds_answered(self) -> list[int]:
        """Return the round of every candidate that was answered."""
        names = (_ANSWER.fullmatch(path.name) for path in (self.path / "answers").iterdir())
        return sorted(int(found[1]) for found in names if found is not None)

    def outcomes(self, model_digest: str, suite: Suite) -> Outcomes | None:
        """Return how well a model does on a suite, if that was kept; None also where the file is damaged."""
        try:
            data = self._outcomes_path(model_digest, suite).read_bytes()
        except OSError:
            return None
        numbers = data[_DIGEST_BYTES:]
        if len(numbers) != 8 * suite.num_tests or hashlib.sha256(numbers).digest() != data[:_DIGEST_BYTES]:
            return None
        return np.frombuffer(numbers, "<f8").astype(np.float64)

    def keep_outcomes(self, model_digest: str, suite: Suite, outcomes: Outcomes) -> None:
        """Keep how well a model does on a suite; what is oldest gives way."""
        numbers = outcomes.astype("<f8").tobytes()
        write_whole(self._outcomes_path(model_digest, suite), hashlib.sha256(numbers).digest() + numbers)
        kept = sorted((self.path / "outcomes").glob("*.f8"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_KEPT_OUTCOMES]:
            old.unlink(missing_ok=True)

    def _outcomes_path(self, model_digest: str, suite: Suite) -> Path:
        return self.path / "outcomes" / f"{model_digest}-{suite.digest()[:32]}.f8"
