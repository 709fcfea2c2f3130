"""Entries of a round's journal about its gate: who is asked, what was tried, and what was decided.

A fused model is a candidate until the gate has decided on it. If it passes, it is published. If it fails, models
without some of the contributions are fused and scored (`Tried`), those that harm are rejected, and what is left is
fused again: a new candidate. So all that a leader has found out stands in the journal, and whoever leads next goes on
from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.gate_asking import not_awaited
from coldfuse.core.gate_rules import MAX_EVALUATORS, GateDecision, GateRules, SuiteCounts
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.timed import Timed
from coldfuse.core.value import Digest, Name, Sentence, Value, without_unset

MAX_COUNTS = 8192
"""Number of suites, of the operator's and of all evaluators', that a decision is made by at most: an entry with as many
can still be read."""

MAX_TRIED = 512
"""Number of models that are tried in a round at most to find who harms."""

Words = Annotated[tuple[Digest, ...], Field(max_length=MAX_EVALUATORS)]
"""SHA-256 of the signed words that evaluators' counts are from, which are objects."""

Counts = Annotated[tuple[SuiteCounts, ...], Field(max_length=MAX_COUNTS)]


class Asked(Timed):
    """These evaluators are asked for their counts on a candidate, which waits for them."""

    event: Literal["asked"] = "asked"
    manifest: Digest
    """Digest of the candidate's release manifest, an object."""
    evaluators: Annotated[tuple[Name, ...], Field(max_length=MAX_EVALUATORS)]
    """Names of the members that are asked."""
    contributions: tuple[Digest, ...] = ()
    """Digests of the manifests of what it was fused of, where others were left out to find who harms."""
    missed: dict[Name, Annotated[int, Field(ge=1)]] | None = None
    """Number of rounds in a row that an evaluator had left unanswered by then, of those who had; None where the rules
    ask for nothing of that, or all had answered."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "missed")

    def awaited(self, rules: GateRules) -> frozenset[str]:
        """Return who is waited for."""
        return frozenset(self.evaluators) - not_awaited(rules, self.missed or {})


class Tried(Value):
    """What the gate's suites say of a model of some of the contributions, which was fused for this alone."""

    event: Literal["tried"] = "tried"
    contributions: tuple[Digest, ...]
    """Digests of the manifests of what was fused, sorted."""
    counts: Counts
    manifest: Digest | None = None
    """Digest of its release manifest, where evaluators were asked about it; None: only the operator's suites were."""
    words: Words = ()
    for_weights: Literal[True] | None = None
    """True where it was fused to find what the contributions are worth (`Weighed`), before the candidate; else None."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "for_weights")


class Weighed(Value):
    """What the weights of a round's contributions are multiplied by, whatever of them is fused from here on."""

    event: Literal["weighed"] = "weighed"
    weighting: Weighting
    """What they were scored by."""
    factors: dict[Digest, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factor of each, by the digest of its manifest; empty where no scores could be had: all count as ever."""
    reason: Sentence
    """How that was found, or why not, for people."""


class Evaluated(Value):
    """What the gate has decided on a candidate."""

    event: Literal["evaluated"] = "evaluated"
    manifest: Digest
    """Digest of the candidate's release manifest, an object."""
    counts: Counts
    """What every suite says of it, beside the base."""
    decision: GateDecision
    """What follows from them by the rules of the round."""
    words: Words = ()


@dataclass(frozen=True)
class Gating:
    """What a journal says of its gate."""

    asked: Asked | None = None
    """Who was asked about the newest candidate that anybody was asked about."""
    num_asked: int = 0
    """Number of candidates that evaluators were asked about."""
    tried: Mapping[frozenset[str], tuple[SuiteCounts, ...]] = field(default_factory=dict)
    """The operator's counts of the models that were tried, by the contributions they were fused of."""
    heard: Mapping[frozenset[str], Tried] = field(default_factory=dict)
    """The same of models that evaluators were asked about to find who harms, with all counts."""
    evaluations: tuple[Evaluated, ...] = ()
    """Every decision, in order."""
    scored: Mapping[frozenset[str], tuple[SuiteCounts, ...]] = field(default_factory=dict)
    """The operator's counts of the models that were fused to weigh contributions by, by what these were fused of."""
    weighed: Weighed | None = None
    """What the contributions' weights are multiplied by; None where nobody has said so (yet)."""

    @property
    def words(self) -> tuple[str, ...]:
        """SHA-256 of every signed word that anything was decided by."""
        decided = [one.words for one in self.evaluations] + [one.words for one in self.heard.values()]
        return tuple(dict.fromkeys(word for words in decided for word in words))

    @property
    def answered(self) -> frozenset[str]:
        """Names of the members by whose counts anything was decided."""
        decided = [one.counts for one in self.evaluations] + [one.counts for one in self.heard.values()]
        return frozenset(one.evaluator for counts in decided for one in counts if one.evaluator is not None)

    def of(self, manifest: str) -> Evaluated | None:
        """Return the decision on a candidate; None while there is none."""
        return next((one for one in reversed(self.evaluations) if one.manifest == manifest), None)

    def warning(self, rules: GateRules | None) -> Evaluated | None:
        """Return the decision by which was published what a member warns of whom nobody could second, if there is."""
        last = self.evaluations[-1] if self.evaluations else None
        if last is None or rules is None or rules.on_one != "warn":
            return None
        if len({one.evaluator for one in last.counts if one.evaluator is not None}) >= rules.to_stop:
            return None  # others were there, and have not seconded it
        return last if last.decision.publish and last.decision.finding == "disputed" else None

    def has_failed(self, manifest: str) -> bool:
        """Tell whether the gate has refused a candidate."""
        found = self.of(manifest)
        return found is not None and not found.decision.publish

    def after(self, event: object) -> Gating:
        """Return the same once this entry is in the journal, too; the first decision on a candidate counts."""
        match event:
            case Asked():
                return replace(self, asked=event, num_asked=self.num_asked + 1)
            case Weighed() if self.weighed is None:
                return replace(self, weighed=event)
            case Tried() if event.for_weights:
                return replace(self, scored={frozenset(event.contributions): event.counts, **self.scored})
            case Tried() if event.manifest is not None:
                return replace(self, heard={frozenset(event.contributions): event, **self.heard})
            case Tried():
                return replace(self, tried={frozenset(event.contributions): event.counts, **self.tried})
            case Evaluated() if self.of(event.manifest) is None:
                return replace(self, evaluations=(*self.evaluations, event))
        return self


def subset_of(contributions: Iterable[str]) -> tuple[str, ...]:
    """Return the digests of some contributions as `Tried` lists them."""
    return tuple(sorted(contributions))
