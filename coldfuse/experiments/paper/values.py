"""What an experiment says: values only, and light to import, as the commands' help is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Protocol = Literal["frozen", "fine-tuned", "few-shot"]
"""How a base is scored on a data set: a linear probe of the frozen body, fine-tuning all of it, or fine-tuning it on a
few labels."""

Group = Literal["seen", "unseen"]
"""Data sets that contributors have, and data sets that nobody trains on but who scores."""

Baseline = Literal["one-shot", "multitask"]
"""Models to compare with: one fusion of a fine-tuned model a data set, and one model trained on all their data."""

Attack = Literal["flip", "flip10", "noise10", "noise100", "labels"]
"""What a hostile contributor sends: its delta turned round (and tenfold), noise of tenfold (hundredfold) length, or
what it learnt of shuffled labels."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Each round samples data sets, one contributor each."""

    num: int
    """Contributors of a round; all data sets take part where there are no more."""
    is_fixed: bool = False
    """True where a contributor trains on the same examples in every round; else it goes on through all that it has."""
    is_balanced: bool = False
    """True where kinds of task take turns in a round, however many data sets a kind has."""
    share: float = 1.0
    """Share of the experiment's number of examples that each trains on in a round."""


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """One data set is dealt out to all contributors, who take part in every round."""

    num: int
    """Contributors."""
    share: float = 1.0
    """Share of the experiment's number of examples that each trains on in a round."""
    is_new: bool = False
    """True where a contributor has new examples in every round."""


@dataclass(frozen=True, kw_only=True)
class Arriving:
    """Data sets come one after the other, so many a round, in an order that the seed decides, and do not come back."""

    num: int
    """Data sets, and so contributors, of a round."""


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """What some of the contributors are made to send."""

    attack: Attack
    num: int
    """Contributors of each round, the first ones of it, whose contribution is replaced."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A curve of the figure: a federation, and which of its models are scored."""

    name: str
    """What the legend says."""
    contributors: Sampled | Dealt | Arriving
    recipe: str = "mean"
    """Recipe of the round's fusion, with outer steps, as `coldfuse init --method` takes it."""
    num_sets: int | None = None
    """Data sets that take part, the first ones; None for all."""
    hostile: Hostile | None = None
    """What some contributors send instead of what they learnt; None where all are honest."""
    averaged: float | None = None
    """Share that the average of releases keeps at each release, where that average is scored; None scores releases."""
    objectives: tuple[str, ...] = ()
    """Options of the local objective at every contributor, as `coldfuse contribute --objective` takes them."""
    epochs: int | None = None
    """Passes over the examples in a round; None for the experiment's."""
    is_gated: bool = False
    """True where a release is published only if the gate finds it better on the seen data sets' validation examples;
    else the next round begins with the base before."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large an experiment is; the defaults suit a small encoder on two processor cores."""

    rounds: int = 6
    """Rounds; the paper has 30."""
    examples: int = 400
    """Examples that a contributor trains on in a round."""
    epochs: int = 1
    """Passes over them."""
    batch_size: int = 16
    """Examples of a training step."""
    learning_rate: float = 2e-4
    """AdamW's, at its highest."""
    max_length: int = 32
    """Tokens of a text that are read."""
    scoring: int = 300
    """Examples that a probe is fitted on, and that a base is fine-tuned on to be scored."""
    scoring_epochs: int = 2
    """Passes over them in fine-tuning to be scored."""
    few: int = 100
    """Labels of a few-shot score."""
    few_epochs: int = 6
    """Passes over them."""
    draws: int = 3
    """Draws of such labels, whose mean a few-shot score is: one alone says as much of the labels as of the base."""
    validation: int = 50
    """Examples that choose the best epoch of a training."""
    test: int = 300
    """Examples that scores are counted on."""
    score_every: int = 1
    """Rounds from one score to the next; the last round is scored in any case."""
    tune_every: int = 3
    """The same for fine-tuned and few-shot scores, which take longer."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides who is sampled, which examples train, and their order; the paper has five."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One of the paper's experiments."""

    name: str
    """What the command is called."""
    title: str
    """What the figure is called."""
    asks: str
    """The question, in a sentence."""
    source: str
    """Where the paper has it, and what was seen there."""
    variants: Sequence[Variant]
    protocols: Sequence[Protocol]
    groups: Sequence[Group] = ("seen",)
    """Which data sets are scored."""
    baselines: Sequence[Baseline] = ()
    num_folds: int = 1
    """Folds of the data sets, each of which is the unseen one once; 1 where all are seen."""
    has_fold_by_seed: bool = False
    """True where each seed has one of the folds in turn; else every seed has all."""
    num_sets: int | None = 12
    """Data sets that are used where the user names none, the first ones by name; None for all."""
    sizes: Sizes = field(default_factory=Sizes)
