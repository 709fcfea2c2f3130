"""The linear probe: logistic regression on fixed features, the classifier that is trained when the body is frozen.

Shape letters: N examples, H features, K classes.
"""
# ruff: noqa: N803, N806 - the names of tensors end in their shape

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from coldfuse.errors import UserInputError

STRENGTH = 0.01
"""The inverse of the L2 penalty, `C` in scikit-learn: strong, as a task may have fewer examples than features."""

_MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A fitted classifier: logits = features · weightᵀ + bias, on the features as they come from the body."""

    weight: Tensor
    """Shape (K, H), float32."""
    bias: Tensor
    """Shape (K,), float32."""

    def accuracy(self, features_NH: Tensor, labels_N: Tensor) -> float:
        """Return the share of examples whose most likely class is their label."""
        logits_NK = features_NH @ self.weight.T + self.bias
        return float((logits_NK.argmax(dim=1) == labels_N).double().mean())


def fit_linear_probe(
    features_NH: Tensor, labels_N: Tensor, *, num_classes: int, strength: float = STRENGTH
) -> LinearProbe:
    """Minimise Σ_n −log p(y_n | x_n) + ‖W‖² / 2·strength by L-BFGS over standardised features.

    The minimum is that of scikit-learn's `LogisticRegression` (a test holds the two together); fitting with torch gives
    the trainer its private head and the evaluator its score from one place, on the same threads as everything else.
    The problem is convex and starts from zero, so no seed is involved. Standardising is folded into weight and bias.
    """
    if not features_NH.isfinite().all():
        raise UserInputError(
            "the model gives features that are not finite: its weights are broken, fetch or make it anew"
        )
    mean_H, scale_H = features_NH.mean(dim=0), features_NH.std(dim=0, correction=0)
    scale_H = torch.where(scale_H > 1e-7, scale_H, torch.ones_like(scale_H))  # a constant feature says nothing
    inputs_NH = (features_NH - mean_H) / scale_H
    weight_KH = torch.zeros(num_classes, inputs_NH.shape[1], device=inputs_NH.device, requires_grad=True)
    bias_K = torch.zeros(num_classes, device=inputs_NH.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_KH, bias_K],
        max_iter=_MAX_STEPS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(inputs_NH @ weight_KH.T + bias_K, labels_N)
        loss = loss + weight_KH.square().sum() / (2 * strength * len(labels_N))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    weight_KH = (weight_KH / scale_H).detach()
    return LinearProbe(weight=weight_KH, bias=(bias_K - weight_KH @ mean_H).detach())
