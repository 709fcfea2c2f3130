"""A learned soup: arXiv 2203.05482, section 2 and appendix I, as `learned_bylayer.py` of its repository does it.

    θ(tensor) = Σ_i α_i(tensor) θ_i,   α(tensor) = softmax(a(tensor))
    min over a, β of the cross entropy of β · logits(θ) on held-out data

a starts at 0 (the uniform soup) and β at 1; AdamW without weight decay. The original's models carry their classifier
with them; here a model folder is a body, so one linear head serves all models and stays fixed (see `Task.head`).
Tensors that the features do not depend on, such as a pooler's, stay at the uniform soup.

Shape letters: T tensors, C contributions, K classes, B examples of a batch.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from coldfuse.search.methods import LearnedSoup
from coldfuse.search.resident import Learned, ResidentModels, Task, over_all, ready, shuffled


def learn_soup(models: ResidentModels, task: Task, soup: LearnedSoup, *, seed: int = 0) -> Learned:
    """Find α by minimising the cross entropy on the task's held-out data; the seed decides the examples' order."""
    data = ready(models, task)
    rows = models.num_tensors if soup.per == "tensor" else 1
    a_TC = torch.zeros(rows, models.num_contributions, device=models.device, requires_grad=True)
    beta = torch.ones((), device=models.device, requires_grad=True)
    optimizer = torch.optim.AdamW([a_TC, beta], lr=soup.lr, weight_decay=0)

    def loss(indices: list[int]) -> Tensor:
        logits_BK = models.logits(models.blend(a_TC.softmax(dim=1)), data, indices)
        return cross_entropy(beta * logits_BK, data.labels_N[indices])

    before = over_all(len(data.texts), loss)
    num_steps = soup.epochs * -(-len(data.texts) // soup.batch)
    order = shuffled(len(data.texts), soup.batch, torch.Generator().manual_seed(seed))
    for indices in islice(order, num_steps):
        optimizer.zero_grad()
        loss(indices).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    table = models.table(a_TC.double().softmax(dim=1), others=1 / models.num_contributions)
    return Learned(table=table, before=before, after=over_all(len(data.texts), loss))
