"""What is at hand when a round's gate decides."""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.aggregator.examining import Examiner
from coldfuse.aggregator.model import Base
from coldfuse.core.gate_rules import GateRules, SuiteCounts
from coldfuse.core.release import ReleaseManifest
from coldfuse.engine.execution import Executor
from coldfuse.registry.federation import Federation


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is needed to decide on the candidate of a round."""

    federation: Federation
    """The federation, under the terms of the round."""
    base: Base
    executor: Executor
    examiner: Examiner | None
    """Scores models on the operator's suites; None where there are none."""
    rules: GateRules
    quorum: int
    """Number of contributions that let the round close."""
    number: int
    """The round's number."""
    age_s: float
    """Age of the round."""
    now_s: float
    """Seconds since 1970, for people."""

    def examined(self, candidate: ReleaseManifest) -> tuple[SuiteCounts, ...]:
        """Return what the operator's suites say of a candidate; nothing where there are none."""
        if self.examiner is None:
            return ()
        ((_, counts),) = self.examiner.count(self.federation, self.base, [candidate], self.executor)
        return counts
