"""AdaMerging: arXiv 2310.02575, equations 3 to 5, as its repository does it.

    θ(tensor) = θ_0 + Σ_i λ_i(tensor) δ_i,   0 ≤ λ ≤ 1
    min over λ of Σ_tasks mean over texts of −Σ_k p_k log p_k,   p = softmax(head_task(features(θ)))

λ starts at 0.3; Adam; each step takes a batch of every task. Only texts are looked at, no labels, but entropy needs a
classifier: the original has CLIP's text towers, here each task has a fixed linear head (see `Task.head`). AdaMerging++
is the same with trimmed deltas: `trim(density=0.2) then adamerging`. Tensors that the features do not depend on stay
at 0.3.

Shape letters: T tensors, C contributions, K classes, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from coldfuse.search.methods import AdaMerging
from coldfuse.search.resident import Learned, ReadyTask, ResidentModels, Task, over_all, ready, shuffled


def entropy(logits_BK: Tensor) -> Tensor:
    """Return the mean entropy of predictions."""
    return -(logits_BK.softmax(dim=1) * logits_BK.log_softmax(dim=1)).sum(dim=1).mean()


def learn_adamerging(models: ResidentModels, tasks: Sequence[Task], merging: AdaMerging, *, seed: int = 0) -> Learned:
    """Find λ by minimising the entropy of the tasks' predictions; the seed decides the texts' order."""
    data = [ready(models, task) for task in tasks]
    rows = models.num_tensors if merging.per == "tensor" else 1
    size = rows, models.num_contributions
    lambda_TC = torch.full(size, merging.start, device=models.device, requires_grad=True)
    optimizer = torch.optim.Adam([lambda_TC], lr=merging.lr)
    generator = torch.Generator().manual_seed(seed)
    orders = [shuffled(len(task.texts), merging.batch, generator) for task in data]

    def uncertainty(theta: Mapping[str, Tensor], task: ReadyTask, indices: list[int]) -> Tensor:
        return entropy(models.logits(theta, task, indices))

    def of_all() -> float:
        theta = models.blend(lambda_TC.detach().clamp(0, 1))
        return sum(over_all(len(task.texts), partial(uncertainty, theta, task)) for task in data)

    before = of_all()
    for _ in range(merging.steps):
        optimizer.zero_grad()
        theta = models.blend(lambda_TC.clamp(0, 1))
        parts = [uncertainty(theta, task, next(order)) for task, order in zip(data, orders, strict=True)]
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found_TC = lambda_TC.detach().clamp(0, 1)
    return Learned(table=models.table(found_TC, others=merging.start), before=before, after=of_all())
