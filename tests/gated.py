"""Federations with a gate, on hand-made models: a suite that a matrix of the model answers, with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tiny_rounds import Model, contribute, make_federation, make_model, read_model

from coldfuse.aggregator.examining import SuiteExaminer
from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import Round, advance
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.round import Closed, LeaderEvent
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import sha256
from coldfuse.engine.execution import Executor, ThreadExecutor
from coldfuse.registry.federation import Federation
from coldfuse.registry.round_clock import RoundClock

MATRIX = "layer.weight"
MODEL = make_model()
TARGET = np.random.default_rng(7).normal(size=(8, 8))
"""The matrix that gets everything right."""

LESSON = TARGET - MODEL[MATRIX].floats.astype(np.float64)
"""What a model has to learn."""


@dataclass(frozen=True)
class SignSuite:
    """Examples X with the sign of ⟨X, TARGET⟩ as their label, of which a model gets right where ⟨X, W⟩ has it, too."""

    name: str
    num_examples: int = 2000
    seed: int = 0
    is_edit: bool = False

    @property
    def num_tests(self) -> int:
        return self.num_examples

    def digest(self) -> str:
        return sha256(f"{self.name} {self.num_examples} {self.seed}".encode())

    def right(self, matrix: np.ndarray) -> np.ndarray:
        examples = np.random.default_rng(self.seed).normal(size=(self.num_examples, 64))
        return ((examples @ matrix.reshape(-1) > 0) == (examples @ TARGET.reshape(-1) > 0)).astype(np.float64)


def score(model_dir: Path, suites: Sequence[SignSuite]) -> list[np.ndarray]:
    """Score a model folder on suites, as `SuiteExaminer.score`."""
    matrix = read_model(model_dir)[MATRIX].floats.astype(np.float64)
    return [suite.right(matrix) for suite in suites]


def examiner(*suites: SignSuite) -> SuiteExaminer:
    return SuiteExaminer(suites or (SignSuite("signs"),), score=score)  # type: ignore[arg-type]


def lesson(share: float, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Make a delta that learns so much of what there is to learn, below 0 for what harms; no two are alike."""
    noise = np.random.default_rng(seed + 50).normal(size=(8, 8)) * 0.01
    return {MATRIX: (share * LESSON + noise).astype(np.float32)}


def gated_federation(
    root: Path, *, gate: GateRules | None = None, quorum: int = 3, model: Model = MODEL, method: str = "mean"
) -> Federation:
    """Create a federation that compares nothing before it fuses: what is learned here lies all in one direction."""
    screening = ScreeningRules.off()
    return make_federation(
        root, model, quorum=quorum, method=method, gate=gate or GateRules(), screening=screening
    )  # fmt: skip


def contribute_all(federation: Federation, shares: dict[str, float]) -> dict[str, str]:
    """Have everybody contribute; return the digests by name."""
    return {
        name: contribute(federation, name, lesson(share, seed=place))
        for place, (name, share) in enumerate(sorted(shares.items()))
    }


def gated_round(
    federation: Federation, number: int, examines: SuiteExaminer | None, *, executor: Executor | None = None
) -> Round:
    return Round(
        federation=federation, journal=federation.journal(number), base=open_base(federation, federation.latest()),
        executor=executor or ThreadExecutor(1), now_s=lambda: 0.0, clock=RoundClock(lambda: 0.0), examiner=examines,
    )  # fmt: skip


def lead_gated(
    federation: Federation, number: int = 1, examines: SuiteExaminer | None = None, *, steps: int | None = None
) -> list[LeaderEvent]:
    """Advance a round until nothing is left to do, or so many steps, each as an aggregator that has just started."""
    events: list[LeaderEvent] = []
    while steps is None or steps > 0:
        new = advance(gated_round(federation, number, examines or examiner()))
        if not new:
            break
        events += new
        steps = None if steps is None else steps - 1
    return events


def closed_on_harm(folder: Path) -> Path:
    """Return a store whose round has closed on three sound contributions and a harmful one."""
    federation = gated_federation(folder)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.3, "ben": 0.2, "cy": 0.25, "eve": -3.0})
    assert isinstance(lead_gated(federation, steps=1)[-1], Closed)
    return folder / "store"
