"""Averages that differ in what is averaged, not in the formula: δ = Σ_i δ_i / C.

A uniform soup averages fine-tunes of one task with different hyper-parameters; a ratatouille averages models that were
fine-tuned on different auxiliary tasks and then all on the same target task.
"""

from __future__ import annotations

from coldfuse.fusion.average.mean import Mean


class UniformSoup(Mean):
    """The mean of models of one task that were fine-tuned with different hyper-parameters."""

    summary = "the mean, of fine-tunes of one task with different hyper-parameters"
    source = "arXiv 2203.05482, section 2"


class Ratatouille(Mean):
    """The mean of models that were fine-tuned on auxiliary tasks first, and then on the target task."""

    summary = "the mean, of models that came to one task by way of others"
    source = "arXiv 2212.10445"
