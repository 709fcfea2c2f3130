"""What a federation asks of a fused model before it is published, what evaluators say of it, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from coldfuse.core.value import Name, Sentence, Value, without_unset

MAX_EXAMPLES = 10**7
"""Largest number of examples of a suite."""

MAX_SUITES = 64
"""Largest number of suites that one evaluator may answer for, and that may have weights."""

MAX_EVALUATORS = 256
"""Largest number of evaluators whose counts make a decision."""

MAX_FLAGS = 16
"""Largest number of remarks on a decision."""

Instead = Literal["publish", "keep"]
"""What becomes of a candidate of which nobody can say how good it is: it is published, or the base is kept."""

Finding = Literal["off", "better", "not-worse", "worse", "not-better", "edit-fails", "disputed", "unsure", "silence"]
"""What was found of a candidate. `edit-fails`: an edit in it does not do what its suite asks for. `disputed`: one
evaluator alone would decide. `unsure`: not enough data. `silence`: of too few evaluators."""

EditPart = Literal["edit", "paraphrase", "keep"]
"""Part of an edit's suite: the edit itself, the same in other words, and what must stay."""

EFFICACY, GENERALITY = 0.9, 0.5
"""Shares of an edit's own prompts, and of its paraphrases, that must say what it wants where the rules say no other."""


_LEAST_WEIGHT = 0.001

_SAID = {
    "resolution": "resolution", "on_unsure": "unsure", "on_silence": "silence", "min_evaluators": "evaluators",
    "to_stop": "to-stop", "wait_s": "wait in seconds", "max_asks": "asks", "per_rounds": "per-rounds", "noise": "noise",
    "max_suites": "suites", "on_one": "on-one", "max_missed": "max-missed", "efficacy": "efficacy",
    "generality": "generality",
}  # fmt: skip
"""How people call the numbers that are said where they are not the usual ones."""


class SuiteWeight(Value):
    """How much a suite counts beside others, which count 1."""

    suite: Name
    weight: Annotated[float, Field(ge=0, le=1000)]
    """0, or 0.001 to 1000."""

    @field_validator("weight")
    @classmethod
    def _not_next_to_nothing(cls, weight: float) -> float:
        if 0 < weight < _LEAST_WEIGHT:
            raise ValueError(f"expected 0, or {_LEAST_WEIGHT:g} to 1000")
        return weight


class GateRules(Value):
    """When a fused model is published: never if it is worse than its base on any suite, as far as that can be seen.

    >>> str(GateRules()), str(GateRules(require="better", margin=0.0)), str(GateRules.off())
    ('not-worse by more than 1 point, alpha 0.05', 'better, not-worse by more than 0 points, alpha 0.05', 'off')
    """

    require: Literal["off", "not-worse", "better"] = "not-worse"
    """`not-worse`: on no suite, nor over all of them, is the candidate worse by more than the margin. `better`: and it
    is better over all suites. `off`: nothing is evaluated."""
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    """Loss that is accepted, as a share of a suite's examples: 0.01 is one point."""
    alpha: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05
    """Share of rounds at most in which a candidate that is not worse is stopped, whatever the number of suites."""
    resolution: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Loss beyond the margin that must be visible in four of five rounds over all suites; where it is not, there is not
    enough data. A share of the examples."""
    on_unsure: Instead = "publish"
    """What follows where there is not enough data, or one evaluator alone would decide."""
    on_silence: Instead = "publish"
    """What follows where fewer than `min_evaluators` have answered in time."""
    min_evaluators: Annotated[int, Field(ge=1, le=MAX_EVALUATORS)] = 1
    """Number of evaluators whose counts make a decision; the operator's own suites are one."""
    to_stop: Annotated[int, Field(ge=1, le=32)] = 2
    """Number of members who must see a loss before it stops a candidate: what is found has to be there without any
    `to_stop` - 1 of them. 1: each of them alone can stop the federation. The operator's own suites always can."""
    wait_s: Annotated[float, Field(gt=0, le=30 * 86400)] = 600.0
    """Seconds for which evaluators are waited for."""
    max_asks: Annotated[int, Field(ge=1, le=1000)] = 4
    """Number of times that one validation set is asked in `per_rounds` rounds: every answer says something of it."""
    per_rounds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of rounds for which `max_asks` holds."""
    noise: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Scale t of the noise that members add to each of their two counts, in examples: P(k) ∝ exp(−|k| / t); 0: none."""
    max_suites: Annotated[int, Field(ge=1, le=MAX_SUITES)] = 16
    """Number of suites that one member may answer for; of whoever sends more nothing counts."""
    weights: Annotated[tuple[SuiteWeight, ...], Field(max_length=MAX_SUITES)] = ()
    """Suites that do not count 1: a share of alpha, and of the examples over all suites. One of weight 0 is not looked
    at."""
    efficacy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of an edit's own prompts that must say what it wants; None: `EFFICACY`."""
    generality: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same of its paraphrases; None: `GENERALITY`."""
    on_one: Literal["ignore", "warn"] | None = None
    """What the word of members does who are too few for `to_stop`, as one alone always is. `warn`: it counts as far as
    it stops and hides nothing, see `decide`. None, as in rules of before: `ignore`."""
    max_missed: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Number of rounds in a row that an evaluator leaves unanswered, after which it is not waited for; None: always."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "on_one", "max_missed", "efficacy", "generality")

    @field_validator("weights")
    @classmethod
    def _each_once(cls, weights: tuple[SuiteWeight, ...]) -> tuple[SuiteWeight, ...]:
        if len({each.suite for each in weights}) < len(weights):
            raise ValueError("a suite has two weights; give it one")
        return tuple(sorted(weights, key=lambda each: each.suite))

    @classmethod
    def off(cls) -> GateRules:
        """Return rules that ask for nothing."""
        return cls(require="off")

    @property
    def is_on(self) -> bool:
        """True where candidates are evaluated before they are published."""
        return self.require != "off"

    def weight_of(self, suite: str) -> float:
        """Return how much a suite counts."""
        return next((each.weight for each in self.weights if each.suite == suite), 1.0)

    def __str__(self) -> str:
        """Say what is asked for; of other numbers those that are not the usual ones."""
        if not self.is_on:
            return "off"
        first = "better, " if self.require == "better" else ""
        usual, numbers = GateRules(), {name: getattr(self, name) for name in _SAID}
        others = [
            f"{_SAID[name]} {f'{value:g}' if isinstance(value, float) else value}"
            for name, value in numbers.items()
            if value != getattr(usual, name)
        ]
        weights = [f"weight {each.suite}={each.weight:g}" for each in self.weights]
        loss = f"{first}not-worse by more than {points(self.margin)}, alpha {self.alpha:g}"
        return ", ".join([loss, *others, *weights])


class SuiteCounts(Value):
    """What an evaluator says of a candidate and its base on the same examples of one suite; a claim.

    Where the rules ask for noise the counts have some, and may lie below 0 or beyond the number of examples.
    """

    suite: Name
    """Name of the validation set; what several evaluators call by one name is taken together."""
    evaluator: Name | None = None
    """Member who has evaluated; None for the operator's own suites, which are believed."""
    num_examples: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
    """Number of examples on which both were scored."""
    only_before: Annotated[int, Field(ge=-MAX_EXAMPLES, le=2 * MAX_EXAMPLES)]
    """Number of them that only the base gets right, or on which it is better."""
    only_after: Annotated[int, Field(ge=-MAX_EXAMPLES, le=2 * MAX_EXAMPLES)]
    """Number of them that only the candidate gets right, or on which it is better."""
    part: EditPart | None = None
    """Part of an edit's suite that these are of; None for any other suite."""
    num_right: Annotated[int, Field(ge=-MAX_EXAMPLES, le=2 * MAX_EXAMPLES)] | None = None
    """Number of them that the candidate gets right; None where nobody asks for it."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "part", "num_right")

    @property
    def difference(self) -> float:
        """Change of the score, as a share of the examples: above 0 where the candidate is better."""
        return (self.only_after - self.only_before) / self.num_examples


def mean_change(counts: Sequence[SuiteCounts]) -> float:
    """Return the mean change of the score, over suites; 0 without any.

    >>> mean_change([SuiteCounts(suite="a", num_examples=100, only_before=3, only_after=1)])
    -0.02
    """
    return sum(one.difference for one in counts) / len(counts) if counts else 0.0


class GateDecision(Value):
    """Whether a candidate is published, and why."""

    publish: bool
    """True to publish it, False to keep the base or fuse again."""
    finding: Finding
    """What was found."""
    reason: Sentence
    """Why, and what can be done, for people."""
    suites: Annotated[tuple[Name, ...], Field(max_length=MAX_SUITES)] = ()
    """Suites on which it is worse, the worst first; empty where that is so only over all of them."""
    difference: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Change of the score over all suites, as a share of their examples; None where nobody has counted."""
    visible: Annotated[float, Field(ge=0, le=1)] | None = None
    """Smallest loss over all suites that would be seen in four of five rounds; None where none of any size would."""
    flags: Annotated[tuple[Sentence, ...], Field(max_length=MAX_FLAGS)] = ()
    """What is odd about the counts, such as an evaluator who contradicts itself, for people."""

    @model_validator(mode="after")
    def _harmful_is_kept(self) -> Self:
        if self.publish and self.finding in ("worse", "not-better", "edit-fails"):
            raise ValueError(
                f"a candidate of which was found {self.finding} is published; expected that the base is kept"
            )
        return self


def points(share: float) -> str:
    """Return a share of the examples in points of a hundred.

    >>> points(0.01), points(-0.0235)
    ('1 point', '-2.4 points')
    """
    value = 100 * share
    said = f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"
    return f"{said} {'point' if said in ('1', '-1') else 'points'}"
