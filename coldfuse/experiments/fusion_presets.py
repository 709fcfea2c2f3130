"""The experiment's settings, and the methods that it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldfuse.experiments.fusion_data import Sizes
from coldfuse.experiments.fusion_round import Parties
from coldfuse.experiments.fusion_training import Training


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One kind of round."""

    tasks: Sequence[str]
    """Names of the data's folders."""
    sizes: Sizes
    training: Training
    parties: Parties | None
    methods: Mapping[str, Sequence[str]]
    """Recipes by the name of what is compared; of several recipes, validation chooses one."""
    attacks: Sequence[str] = ()
    """Names of the attacks, each in a round beside the clean one."""
    num_hostile: int = 0
    """Contributions that an attack replaces."""


def _each(line: str, *values: float) -> list[str]:
    return [line.format(value) for value in values]


_COMPARED = {
    "mean": ["mean"],
    "task-arithmetic": _each("task-arithmetic(scale={})", 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0),
    "regmean(0.1)": ["regmean(off_diagonal=0.1)"],
    "regmean(0.9)": ["regmean(off_diagonal=0.9)"],
    "fisher": ["fisher"],
    "ties": _each("ties(scale={})", 0.4, 0.8, 1.2, 1.6, 2.0, 2.5),
    "dare(0.5), task-arithmetic": _each("dare then task-arithmetic(scale={})", 0.2, 0.3, 0.4, 0.5),
    "iso-c": _each("iso-c(scale={})", 0.5, 1.0, 1.5, 2.0),
    "tsv-m": ["tsv-m"],
    "wudi": ["wudi"],
    "wudi with a ridge": _each("wudi(ridge={})", 0.01, 0.1, 1.0),
    "consensus": _each("consensus(scale={})", 0.3, 0.5, 0.7),
    "breadcrumbs, task-arithmetic": _each("breadcrumbs then task-arithmetic(scale={})", 0.5, 1.0, 1.5),
    "pcb": _each("pcb(scale={})", 0.8, 1.2, 2.0),
    "magmax": _each("magmax(scale={})", 0.3, 0.5, 0.8),
    "knots": _each("knots(scale={})", 1.0, 1.5),
    "sce": ["sce"],
    "ram-plus": ["ram-plus"],
    "model-stock": ["model-stock"],
    "karcher": ["karcher"],
}

_ROBUST = {
    "mean": ["mean"],
    "median": ["median"],
    "trimmed-mean": ["trimmed-mean(trim=0.2)"],
    "geometric-median": ["geometric-median"],
    "krum": ["krum(byzantine=2)"],
    "multi-krum": ["multi-krum(byzantine=2)"],
    "clip, mean": ["clip then mean"],
    "centred-clip": ["centred-clip"],
    "foolsgold": ["foolsgold"],
    "model-stock": ["model-stock"],
}

PRESETS = {
    "tasks": Preset(
        tasks=("trec_coarse", "sst2", "sick", "stackoverflow_titles", "tweet_emotion", "financial_phrasebank", "subj"),
        sizes=Sizes(train=1500, validation=200, test=500),
        training=Training(num_epochs=3, learning_rate=2e-4, max_length=48),
        parties=None,
        methods=_COMPARED,
    ),
    "partitions": Preset(
        tasks=("sst2",),
        sizes=Sizes(train=5000, validation=500, test=1000),
        training=Training(num_epochs=2, learning_rate=1e-4, max_length=48),
        parties=Parties(num_parties=4, num_each=1000, main_share=0.8),
        methods=_COMPARED,
    ),
    "robust": Preset(
        tasks=("trec_coarse",),
        sizes=Sizes(train=5000, validation=500, test=1000),
        training=Training(num_epochs=3, learning_rate=2e-4, max_length=48),
        parties=Parties(num_parties=10, num_each=450, main_share=0.0),
        methods=_ROBUST,
        attacks=("noise10", "noise100", "flip", "flip10"),
        num_hostile=2,
    ),
}
"""Presets by the name that the command takes."""
