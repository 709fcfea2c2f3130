"""LogME: the evidence of a Bayesian linear model of features, and the model itself, as pure functions.

    y | F, w ~ N(F w, 1/β)        w ~ N(0, 1/α)        m = β A⁻¹ Fᵀ y        A = α + β FᵀF

Of each class against the others, or of each number to predict; α and β are what makes the evidence of y highest (You et
al., arXiv 2102.11005 and 2110.10545). Everything is computed in float64.

Shape letters: N examples, D features, R directions in which features differ, K classes, T targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldfuse.errors import UserInputError

Float64 = NDArray[np.float64]
Numbers = NDArray[np.int64]

_STEPS = 11
_ENOUGH = 1e-3
"""Relative change of α/β from which on the fixed point is reached."""
_SMALL = 1e-5
"""Keeps α and β finite where features explain everything, as in the original."""


def logme(features: ArrayLike, labels: ArrayLike) -> float:
    """Return LogME of a classification: the maximum evidence of each class against the others, over N, their mean.

    α (precision of the weights) and β (of the noise) are found by fixed-point iteration (arXiv 2110.10545, algorithm
    3): at most 11 steps, until α/β changes by less than 0.1 %. Where there are more features than examples, the
    evidence has the term of all D directions, as in the first paper; the second one's code leaves out those without
    features.

    Args:
        features: Shape (N, D).
        labels: Class of each example, shape (N,).

    Raises:
        UserInputError: Features are not finite, or there are fewer than two classes or examples.
    """
    features_ND, labels_N = checked(features, labels)
    target_KN = labels_N[None, :] == np.arange(labels_N.max() + 1)[:, None]
    return linear_models(features_ND, target_KN.astype(np.float64))[0]


def logme_of_numbers(features: ArrayLike, targets: ArrayLike) -> float:
    """Return LogME of a regression: the maximum evidence of each target, over N, their mean.

    It depends on the targets' scale: bring targets of models that are compared to one scale, such as 0…1.

    Args:
        features: Shape (N, D).
        targets: Numbers to predict, shape (N,), or (N, T) for several.

    Raises:
        UserInputError: Features or targets are not finite, or there are fewer than two examples.
    """
    target_NT = np.asarray(targets, np.float64)
    target_NT = target_NT[:, None] if target_NT.ndim == 1 else target_NT
    features_ND = finite(features, num_examples=len(target_NT))
    if not np.isfinite(target_NT).all():
        raise UserInputError("some targets are not finite; leave out the examples without a number")
    return linear_models(features_ND, target_NT.T)[0]


def linear_models(features_ND: Float64, target_TN: ArrayLike) -> tuple[float, Float64]:
    """Return the mean over targets of their highest log evidence over N, and the posterior means m, shape (T, D).

    Args:
        features_ND: Features, finite.
        target_TN: What is to be said of each example, a row a target.
    """
    left_NR, singular_R = decomposed(features_ND)
    evidences, means = [], []
    for target_N in np.asarray(target_TN, np.float64):
        evidence, ratio = _evidence(left_NR, singular_R**2, target_N)
        evidences.append(evidence)
        means.append(features_ND.T @ (left_NR @ ((left_NR.T @ target_N) / (ratio + singular_R**2))))
    return float(np.mean(evidences)), np.stack(means)


def _evidence(left_NR: Float64, squared_R: Float64, target_N: Float64) -> tuple[float, float]:
    """Return the log evidence of one target over N at the fixed point of α and β, and α/β."""
    num_examples = len(target_N)
    projected_R = (left_NR.T @ target_N) ** 2
    left_over = max(float((target_N**2).sum() - projected_R.sum()), 0.0)
    alpha = beta = ratio = 1.0
    for _ in range(_STEPS):
        ratio = alpha / beta
        gamma = (squared_R / (squared_R + ratio)).sum()
        weights = (squared_R * projected_R / (ratio + squared_R) ** 2).sum()
        residual = (projected_R / (1 + squared_R / ratio) ** 2).sum() + left_over
        alpha, beta = gamma / (weights + _SMALL), (num_examples - gamma) / (residual + _SMALL)
        if not len(squared_R) or abs(alpha / beta - ratio) <= _ENOUGH * ratio:
            break
    evidence = num_examples * np.log(beta) - beta * residual - num_examples * np.log(2 * np.pi)
    if len(squared_R):
        evidence += len(squared_R) * np.log(alpha) - np.log(alpha + beta * squared_R).sum() - alpha * weights
    return float(evidence) / 2 / num_examples, ratio


def decomposed(features_ND: Float64) -> tuple[Float64, Float64]:
    """Return left singular vectors and singular values, as far as these are more than rounding."""
    left_NR, singular_R, _ = np.linalg.svd(features_ND, full_matrices=False)
    rank = int((singular_R > singular_R[0] * max(features_ND.shape) * np.finfo(np.float64).eps).sum())
    return left_NR[:, :rank], singular_R[:rank]


def checked(features: ArrayLike, labels: ArrayLike) -> tuple[Float64, Numbers]:
    """Return features in float64, and classes numbered without gaps.

    Raises:
        UserInputError: Features are not finite, or there are fewer than two classes or examples.
    """
    given = np.asarray(labels)
    features_ND = finite(features, num_examples=len(given))
    classes, labels_N = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        raise UserInputError(f"all {len(given)} examples have one class, expected two or more to tell apart")
    return features_ND, labels_N.astype(np.int64)


def finite(features: ArrayLike, *, num_examples: int) -> Float64:
    """Return features in float64. Raises `UserInputError` if they are not finite, or none of so many examples."""
    raw: NDArray[Any] = np.asarray(features)
    if raw.ndim != 2 or len(raw) != num_examples:
        raise UserInputError(
            f"features have shape {list(raw.shape)}, expected {num_examples} rows, one an example, of numbers"
        )
    if min(raw.shape) < 1 or num_examples < 2:
        raise UserInputError(f"{num_examples} examples of {raw.shape[1]} features, expected two or more examples")
    features_ND = raw.astype(np.float64)
    if bad := int((~np.isfinite(features_ND)).any(axis=1).sum()):
        raise UserInputError(
            f"features of {bad} of {num_examples} examples are not finite: the model's weights are broken, or too "
            "large for the dtype that it computes in"
        )
    return features_ND
