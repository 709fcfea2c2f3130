"""How alike two sets of features of the same examples are, whatever their widths: pure functions.

    cka               linear centred kernel alignment, without its bias (Kornblith et al., arXiv 1905.00414)
    products, aligned the same summed over batches, for many sets of features at once (Nguyen et al., arXiv 2010.15327)
    svcca, pwcca      canonical correlations of the main directions (Raghu et al., arXiv 1706.05806; Morcos et al.,
                      arXiv 1806.05759)
    procrustes        what is left between them after the best rotation (Ding et al., arXiv 2108.01661)

None of them changes if features are moved or scaled as a whole, and all but pwcca (which weighs by single features)
are the same for features that are rotated. Everything is computed in float64. None is returned where there is no
answer: features that do not differ between examples, or too few examples.

Shape letters: N examples, B of them in a batch, D and E features, R directions, S sets of features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldfuse.errors import UserInputError

Float64 = NDArray[np.float64]

FEWEST = 4
"""Examples of which an estimate without bias can be made."""

MAIN = 0.99
"""Share of the variance that the main directions have, as SVCCA takes them."""


def products(features: Sequence[ArrayLike]) -> Float64:
    """Return the unbiased estimates of HSIC of every set of features with every other, on one batch, times B(B − 3).

    The linear kernels' matrices are centred without their diagonals (Székely and Rizzo 2014), so that no example is
    compared with itself; estimates may be negative, and independent features give 0 on average.

    Args:
        features: S sets of features of the same examples, shapes (B, D).

    Returns:
        Shape (S, S). Products of several batches are added, and `aligned` makes CKA of the sum.

    Raises:
        UserInputError: Features are not finite, or of fewer than 4 examples.
    """
    sets = [_centred(each) for each in features]
    num_examples = len(sets[0])
    if num_examples < FEWEST:
        raise UserInputError(f"{num_examples} examples: CKA needs {FEWEST} or more")
    kernel_SBB = np.stack([each @ each.T for each in sets])
    diagonal = np.arange(num_examples)
    kernel_SBB[:, diagonal, diagonal] = 0.0
    mean_SB = kernel_SBB.sum(axis=2) / (num_examples - 2)
    mean_SB -= mean_SB.sum(axis=1, keepdims=True) / (2 * (num_examples - 1))
    kernel_SBB -= mean_SB[:, :, None]
    kernel_SBB -= mean_SB[:, None, :]
    kernel_SBB[:, diagonal, diagonal] = 0.0
    flat_SN = kernel_SBB.reshape(len(sets), -1)
    found: Float64 = flat_SN @ flat_SN.T
    return found


def aligned(products_SS: Float64) -> list[list[float | None]]:
    """Return CKA of every set of features with every other, from their `products`, as rows."""
    length_S = np.sqrt(np.maximum(np.diag(products_SS), 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = (products_SS / length_S / length_S[:, None]).tolist()
    return [[value if math.isfinite(value) else None for value in row] for row in rows]


def cka(x: ArrayLike, y: ArrayLike, *, debiased: bool = True) -> float | None:
    """Return linear CKA: ⟨K, L⟩ / ‖K‖‖L‖ of the centred kernels' matrices, at most 1; about 0 for what is independent.

    Args:
        x: Shape (N, D).
        y: Shape (N, E).
        debiased: False for the original estimate, which is far above 0 for independent features if there are many of
            them beside the examples.

    Raises:
        UserInputError: Features are not finite, of different examples, or of too few.
    """
    if debiased:
        return aligned(products(_pair(x, y)))[0][1]
    x_ND, y_NE = _pair(x, y)
    length = np.linalg.norm(x_ND.T @ x_ND) * np.linalg.norm(y_NE.T @ y_NE)
    return float(np.linalg.norm(x_ND.T @ y_NE) ** 2 / length) if length > 0 else None


def svcca(x: ArrayLike, y: ArrayLike, *, share: float = MAIN) -> float | None:
    """Return the mean canonical correlation of the main directions, 0…1.

    None where the directions of both are as many as the examples or more: some would correlate whatever they are.

    Args:
        x: Shape (N, D).
        y: Shape (N, E).
        share: Share of the variance that the directions keep.

    Raises:
        UserInputError: Features are not finite, or of different examples.
    """
    x_ND, y_NE = _pair(x, y)
    found = _canonical(x_ND, y_NE, share)
    return None if found is None else float(found[0].mean())


def pwcca(x: ArrayLike, y: ArrayLike, *, share: float = MAIN) -> float | None:
    """Return the mean canonical correlation, weighted by how much of the features each direction carries, 0…1.

    Weights are α_r = Σ_d |⟨h_r, x_d⟩|, with h_r the canonical directions of that set which has fewer of them (of the
    first, if both have as many). None as for `svcca`.

    Args:
        x: Shape (N, D).
        y: Shape (N, E).
        share: Share of the variance that the directions keep; 1 for the paper's own, which needs many examples.

    Raises:
        UserInputError: Features are not finite, or of different examples.
    """
    x_ND, y_NE = _pair(x, y)
    found = _canonical(x_ND, y_NE, share)
    if found is None:
        return None
    correlation_R, of_x_NR, of_y_NR, is_x_smaller = found
    weight_R = np.abs(of_x_NR.T @ x_ND if is_x_smaller else of_y_NR.T @ y_NE).sum(axis=1)
    return float(correlation_R @ weight_R / weight_R.sum())


def procrustes(x: ArrayLike, y: ArrayLike) -> float | None:
    """Return the orthogonal Procrustes distance, 1 − ‖XᵀY‖_* of centred X and Y with ‖X‖ = ‖Y‖ = 1.

    It is half of min_Q ‖XQ − Y‖² over rotations Q: 0 for features that are a rotation of each other, 1 for those that
    have nothing in common. Where the widths differ, the narrower is filled up with zeros.

    Args:
        x: Shape (N, D).
        y: Shape (N, E).

    Raises:
        UserInputError: Features are not finite, or of different examples.
    """
    x_ND, y_NE = (_narrowed(each) for each in _pair(x, y))
    length = np.linalg.norm(x_ND) * np.linalg.norm(y_NE)
    if not length > 0:
        return None
    return max(0.0, 1.0 - float(np.linalg.svd(x_ND.T @ y_NE, compute_uv=False).sum() / length))


def _canonical(x_ND: Float64, y_NE: Float64, share: float) -> tuple[Float64, Float64, Float64, bool] | None:
    """Return canonical correlations, the directions of both, and whether the first has no more of them."""
    x_NR, y_NR = _main_directions(x_ND, share), _main_directions(y_NE, share)
    num_x, num_y = x_NR.shape[1], y_NR.shape[1]
    if not num_x or not num_y or num_x + num_y >= len(x_ND):  # centred, N examples have N − 1 directions
        return None
    left, correlation_R, right = np.linalg.svd(x_NR.T @ y_NR, full_matrices=False)
    return np.clip(correlation_R, 0, 1), x_NR @ left, y_NR @ right.T, num_x <= num_y


def _main_directions(x_ND: Float64, share: float) -> Float64:
    """Return an orthonormal basis, over the examples, of the directions that have this share of the variance."""
    left_NR, singular_R, _ = np.linalg.svd(x_ND, full_matrices=False)
    rank = int((singular_R > singular_R[0] * max(x_ND.shape) * np.finfo(np.float64).eps).sum())
    if not rank:
        return left_NR[:, :0]
    explained_R = np.cumsum(singular_R[:rank] ** 2)
    wanted = int(np.searchsorted(explained_R, share * explained_R[-1])) + 1
    return left_NR[:, : min(wanted, rank)]


def _narrowed(x_ND: Float64) -> Float64:
    """Return features, rotated so that there are no more of them than examples."""
    if x_ND.shape[1] <= len(x_ND):
        return x_ND
    left_NR, singular_R, _ = np.linalg.svd(x_ND, full_matrices=False)
    narrowed_NR: Float64 = left_NR * singular_R
    return narrowed_NR


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Float64, Float64]:
    x_ND, y_NE = _centred(x), _centred(y)
    if len(x_ND) != len(y_NE):
        raise UserInputError(f"features of {len(x_ND)} and of {len(y_NE)} examples; expected those of the same ones")
    return x_ND, y_NE


def _centred(x: ArrayLike) -> Float64:
    """Return features in float64 without their mean; what differs by rounding alone is constant."""
    x_ND = np.asarray(x).astype(np.float64)
    if x_ND.ndim != 2 or 0 in x_ND.shape:
        raise UserInputError(f"features have shape {list(x_ND.shape)}, expected one row of numbers an example")
    if not np.isfinite(x_ND).all():
        raise UserInputError("some features are not finite: the model's weights are broken, or too large for its dtype")
    rounding_D = np.abs(x_ND).max(axis=0) * np.finfo(np.float64).eps * len(x_ND)
    centred_ND: Float64 = x_ND - x_ND.mean(axis=0)
    centred_ND[:, np.abs(centred_ND).max(axis=0) <= rounding_D] = 0.0
    return centred_ND
