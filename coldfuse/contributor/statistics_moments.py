"""The variance of each weight along the training: the diagonal half of SWAG (arXiv 1902.02476, section 3.2).

σ² = E_t θ_t² − (E_t θ_t)²      over snapshots θ_t, say one an epoch, once the training has settled
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from coldfuse.errors import UserInputError


class RunningMoments:
    """First and second moments of a model's weights over snapshots, in float64: two models' worth of memory.

    They are updated by Welford's rule rather than as E θ² and (E θ)², whose difference would lose small variances; a
    weight that never moves has the variance 0 exactly.
    """

    def __init__(self) -> None:
        self.num_snapshots = 0
        self._mean: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        """Take a snapshot of the weights: tensors by name, the same ones every time. They are copied."""
        values = {name: tensor.detach().double().cpu() for name, tensor in state.items() if tensor.is_floating_point()}
        if not self.num_snapshots:
            self._mean = {name: torch.zeros_like(value) for name, value in values.items()}
            self._squares = {name: torch.zeros_like(value) for name, value in values.items()}
        if {name: value.shape for name, value in values.items()} != {n: mean.shape for n, mean in self._mean.items()}:
            raise UserInputError("a snapshot has other tensors than the ones before it; take all of the same model")
        self.num_snapshots += 1
        for name, value in values.items():
            step = value - self._mean[name]
            self._mean[name] += step / self.num_snapshots
            self._squares[name] += step * (value - self._mean[name])

    def variance(self, *, floor: float = 0.0) -> dict[str, Tensor]:
        """Return σ² by name, float32.

        Args:
            floor: The least variance of a weight that moved, as a share of the mean over all that moved. Weights that
                did not move keep 0, by which fusion knows them.
        """
        if self.num_snapshots < 2:
            raise UserInputError(f"{self.num_snapshots} snapshots have no variance; take two or more")
        variances = {name: squares / self.num_snapshots for name, squares in self._squares.items()}
        least = floor * self._mean_of_moved(variances) if floor else 0.0
        return {name: torch.where(v > 0, v.clamp(min=least), v).float() for name, v in variances.items()}

    @staticmethod
    def _mean_of_moved(variances: Mapping[str, Tensor]) -> float:
        total = sum(float(variance.sum()) for variance in variances.values())
        return total / max(sum(int((variance > 0).sum()) for variance in variances.values()), 1)
