"""Statistics of each contributor's data, with those of a head that lies among the model's tensors.

    G = E_x x xᵀ                      the head's inputs x are the features of a text
    F_kh = E_x p_k (1 − p_k) x_h²     exact, as ∂ log p_y / ∂W = (e_y − p) xᵀ; of the bias, E_x p_k (1 − p_k)

Shape letters: N examples, H features, K classes.
"""
# ruff: noqa: N803, N806 - the names of tensors end in their shape

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from coldfuse.experiments.fusion_models import HEAD_NAMES, read_head
from coldfuse.experiments.fusion_round import Contribution
from coldfuse.experiments.fusion_training import SCORING_BATCH, Labelled
from coldfuse.training.encoding import encode_all
from coldfuse.training.estimators import choose
from coldfuse.training.head import HEAD_FILE, LinearHead
from coldfuse.training.loading import load_body
from coldfuse.training.statistics import StatisticsJob, compute_statistics, write_statistics

NUM_EXAMPLES = 256
"""How many of a contributor's examples are looked at."""


def statistics_file(
    contribution: Contribution, kind: Literal["fisher", "gram"], *, max_length: int, with_head: bool
) -> Path:
    """Compute a contribution's statistics, unless they are there; return the file's path."""
    path = contribution.folder.with_name(f"{contribution.folder.name}.{kind}.safetensors")
    if not path.exists():
        job = StatisticsJob(
            model_dir=contribution.folder, data=contribution.data, kind=kind, num_examples=NUM_EXAMPLES, device="cpu",
            max_length=max_length,
        )  # fmt: skip
        info, tensors = compute_statistics(job)
        write_statistics(path, tensors | (_of_head(job) if with_head else {}), info)
    return path


def _of_head(job: StatisticsJob) -> dict[str, Tensor]:
    chosen = choose(len(job.data), job.num_examples, seed=job.seed)
    data = Labelled.of(job.data.take(chosen), job.model_dir, job.max_length)
    features_NH = encode_all(load_body(job.model_dir), data.texts, batch_size=SCORING_BATCH)
    if job.kind == "gram":
        return {HEAD_NAMES[0]: features_NH.T @ features_NH / len(chosen)}
    return dict(zip(HEAD_NAMES, head_fisher(read_head(job.model_dir / HEAD_FILE), features_NH), strict=True))


def head_fisher(head: LinearHead, features_NH: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exact diagonal Fisher information of a head's weight and bias."""
    p_NK = torch.softmax(features_NH @ head.weight.T + head.bias, dim=1)
    variance_NK = p_NK * (1 - p_NK)
    return variance_NK.T @ features_NH.square() / len(p_NK), variance_NK.mean(dim=0)
