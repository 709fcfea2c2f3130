"""What an evaluation is, as values that are kept and shown: scores, comparisons, and what they were made of.

The JSON of `Evaluation` is what `coldfuse evaluate --json` prints and `--out` writes. Its `form` names its layout: a
reader of this form may rely on every field below; new ones may come beside them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.value import Digest, Sentence, Value

FORM: Literal["coldfuse-evaluation/1"] = "coldfuse-evaluation/1"
"""Layout of an evaluation's JSON."""

Word = Annotated[str, Field(min_length=1, max_length=2000)]
"""Name of something, for people."""


class TestScore(Value):
    """How one model did on the examples of one test set, in one trial."""

    __test__ = False  # no test of pytest, whatever its name

    test: Annotated[str, Field(max_length=500)]
    """Name of the test set within its data set; "" where there is one."""
    value: float
    """Value of the task's metric."""
    outcomes: tuple[float, ...] | None
    """Score of each example, higher is better: of a choice between classes 1 where it is right and else 0; None where
    the metric gives none."""
    notes: tuple[Sentence, ...] = ()
    """What should be known of it."""
    metric: Word | None = None
    """What is measured, where the task does not say it."""
    higher_is_better: bool | None = None
    """Whether a higher value is a better one, where the task does not say it."""


class Trial(Value):
    """What came of one model on one data set by one protocol with one seed."""

    identity: Digest
    """Digest of all that decides it."""
    num_train: int
    """Examples that something was fitted to; 0 where nothing was."""
    scores: tuple[TestScore, ...]
    """Score on each test set."""
    notes: tuple[Sentence, ...] = ()
    """What should be known of it."""


class EvaluatedModel(Value):
    """A model that was scored."""

    name: Word
    """What its user calls it."""
    digest: Digest
    """Digest of the files that decide what it does."""


class EvaluatedData(Value):
    """A test set that models were scored on."""

    name: Word
    """Name of the data set, and of the test set within it."""
    task: Word
    """Line of the task."""
    metric: Word
    """What is measured."""
    higher_is_better: bool
    """Whether a higher score is a better one."""
    num_train: int
    """Examples that there are to train on."""
    num_test: int
    """Examples that it was scored on."""
    digest: Digest
    """Digest of the test examples."""


class Scored(Value):
    """Scores of one model on one test set by one protocol."""

    model: Word
    """Name of the model."""
    data: Word
    """Name of the data."""
    protocol: Word
    """How it was scored."""
    scores: tuple[float, ...]
    """One a seed, or a single one where nothing is random."""
    mean: float
    """Mean over the seeds."""
    spread: float | None
    """Standard deviation over the seeds, of a sample; None of fewer than two."""
    change: float | None = None
    """Mean less that on the data set's first test set: what another source or time changes; None of the first."""


class Compared(Value):
    """One model against the first one, on the same examples."""

    model: Word
    """Name of the model."""
    reference: Word
    """Name of the first model."""
    data: Word | None
    """Name of the data; None for the examples of all data sets together."""
    protocol: Word
    """How both were scored."""
    difference: float | None
    """Mean score of the model less that of the first; None for all data sets together."""
    num_examples: int
    """Examples that both were scored on."""
    only_before: int
    """Examples on which the first is better."""
    only_after: int
    """Examples on which the model is better."""
    p: float
    """Two-sided p-value of the exact paired test, adjusted over the data sets (Holm)."""
    smallest_visible: float | None
    """Smallest difference in wins, as a share of the examples, that could have been seen; None: none whatever."""
    verdict: Literal["better", "worse", "no difference seen", "not enough data"]
    """What follows for the model."""
    reason: Sentence
    """What the verdict comes from."""


class Evaluation(Value):
    """Scores of models on data sets, and which of them is better than the first."""

    form: Literal["coldfuse-evaluation/1"] = FORM
    """Layout of this JSON."""
    models: tuple[EvaluatedModel, ...]
    """Models, in the order in which they were named; the others are compared with the first."""
    data: tuple[EvaluatedData, ...]
    """Test sets."""
    settings: dict[str, str]
    """What else decides the scores."""
    scores: tuple[Scored, ...]
    """By protocol, data and model."""
    comparisons: tuple[Compared, ...]
    """By protocol, model and data; one of all data together comes last, where there are several."""
    notes: tuple[Sentence, ...] = ()
    """What should be known of the data and the scores."""
