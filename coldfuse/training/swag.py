"""The variance of each weight around a trained solution: the diagonal of SWAG (arXiv 1902.02476, algorithm 1).

    θ_1 … θ_T: training goes on from the solution with a constant learning rate;  σ² = E_t θ_t² − (E_t θ_t)²

As in the paper the run begins where training has ended. It takes a fixed number of steps of AdamW, the node's own
optimiser, at the node's own highest learning rate, without dropout or decay of weights; each step is a snapshot. So a
weight that no example touches never moves, and has the variance 0. The moments are of the distance from the solution,
by Welford's rule: differences of squares would lose small variances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coldfuse.errors import UserInputError
from coldfuse.training.estimators import evaluating
from coldfuse.training.job import TrainingSettings
from coldfuse.training.schedule import derive_seed
from coldfuse.training.task_statistics import Estimated, batch_of

if TYPE_CHECKING:
    from coldfuse.training.tasks.task import Feature, TaskModel

NUM_SNAPSHOTS = 32
"""Number of steps, and so of snapshots."""


def weight_variance(
    loaded: TaskModel,
    features: Sequence[Feature],
    names: Mapping[str, str],
    *,
    settings: TrainingSettings,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Estimated:
    """Return the variance of each weight around a trained model, which is left as it was.

    Args:
        loaded: The trained model, as the task loads it.
        features: The examples that it was trained on.
        names: Names in the files of the parameters that are looked at, by those in `loaded.model`.
        settings: How it was trained.
        on_step: Is told how many snapshots there are.

    Raises:
        UserInputError: The run leaves the range of numbers.
    """
    parameters = {stored: dict(loaded.model.named_parameters())[own] for own, stored in names.items()}
    solution = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    private = {n: p.detach().clone() for n, p in loaded.model.named_parameters() if n not in names}
    means = {name: torch.zeros_like(tensor) for name, tensor in solution.items()}
    squares = {name: torch.zeros_like(tensor) for name, tensor in solution.items()}
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    batches = _batches(len(features), settings)
    with evaluating(loaded.model), torch.enable_grad():
        for count, indices in enumerate(batches, start=1):
            loss = loaded.model(**batch_of(loaded, [features[i] for i in indices])).loss
            if not loss.isfinite():
                raise UserInputError(f"the variance of the weights cannot be found: the loss is {loss.item()}")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), settings.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            _add({n: p.detach() - solution[n] for n, p in parameters.items()}, means, squares, count)
            on_step(count, len(batches))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(solution[name])
        for name, parameter in loaded.model.named_parameters():
            if name in private:
                parameter.copy_(private[name])
    tensors = {name: (total / len(batches)).cpu() for name, total in squares.items()}
    seen = {i for indices in batches for i in indices}
    return Estimated(tensors=tensors, estimator="swag-diagonal", num_examples=len(seen), count=len(batches))


def _add(distances: Mapping[str, Tensor], means: dict[str, Tensor], squares: dict[str, Tensor], count: int) -> None:
    for name, distance in distances.items():
        step = distance - means[name]
        means[name] += step / count
        squares[name] += step * (distance - means[name])


def _batches(num_examples: int, settings: TrainingSettings) -> list[list[int]]:
    """Return the examples of each step: one random order after the other."""
    size = min(settings.batch_size, num_examples)
    wanted, order = size * NUM_SNAPSHOTS, list[int]()
    turn = 0
    while len(order) < wanted:
        generator = torch.Generator().manual_seed(derive_seed(settings.seed, "swag", turn))
        order += torch.randperm(num_examples, generator=generator).tolist()
        turn += 1
    return [order[first : first + size] for first in range(0, wanted, size)]
