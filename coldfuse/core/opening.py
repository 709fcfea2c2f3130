"""The entry that opens a round: its base, its terms, and all that it knows of the rounds before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.contribution import Admission, Count
from coldfuse.core.federation import RoundRules, Terms
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.past import MAX_ACTIVE, MAX_PAST, ActiveContributor, PastRound
from coldfuse.core.retraction import Retraction
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.statistics import StatisticsRule
from coldfuse.core.value import Digest, Value, without_unset


class Opened(Value):
    """The round began on this base."""

    event: Literal["opened"] = "opened"
    base_release: Count
    base_digest: Digest
    """Model digest of the base."""
    opened_at_s: float
    """Seconds since 1970, by the aggregator's clock; for people."""
    carried: tuple[Admission, ...] = ()
    """Contributions admitted in the abandoned round before, on the same base: they still count."""
    terms: Terms | None = None
    """What the round was opened with: it keeps them; None in journals of versions in which they could not change."""
    refused_by: str | None = None
    """Method that has refused exactly the carried contributions, if one has."""
    refused_gate: GateRules | None = None
    """Rules of the gate by which the candidate of exactly the carried contributions has failed; None if none has."""
    sketch_seed: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Secret of the round, by which sketches of deltas are made; it goes on with what is carried."""
    past: Annotated[tuple[PastRound, ...], Field(max_length=MAX_PAST)] = ()
    """The last rounds that made a release, newest first."""
    active: Annotated[tuple[ActiveContributor, ...], Field(max_length=MAX_ACTIVE)] = ()
    """Those who have contributed lately."""
    retraction: Retraction | None = None
    """What is taken out: the round takes no contributions, and fuses those of earlier rounds again; None otherwise."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "refused_gate", "retraction")

    @property
    def screening(self) -> ScreeningRules:
        """Rules by which its contributions are compared; those of a round of an older version compare nothing."""
        return self.terms.screening if self.terms else ScreeningRules.off()

    @property
    def statistics(self) -> StatisticsRule:
        """Statistics that contributions to it bring; none in a round of an older version."""
        return self.terms.statistics if self.terms else StatisticsRule()

    @property
    def rules(self) -> RoundRules:
        """Rules of the round; of an older version's round those that it cannot have had otherwise."""
        return self.terms.rules if self.terms else RoundRules()

    def staleness_of(self, base_release: int, base_digest: str) -> int | None:
        """Return by how many releases a contribution's base is older than the round's; None where it is not taken."""
        if (base_release, base_digest) == (self.base_release, self.base_digest):
            return 0
        staleness = self.base_release - base_release
        known = any((one.base_release, one.base_digest) == (base_release, base_digest) for one in self.past)
        return staleness if known and 0 < staleness <= self.rules.oldest else None

    @property
    def is_refused(self) -> bool:
        """True where the round's method, or its gate, would refuse the carried contributions once more."""
        if self.terms is None or self.refused_by == self.terms.method:
            return True
        return self.refused_gate is not None and self.refused_gate == self.terms.gate
