"""Singular value decompositions without the vectors that only rounding decides.

Letters: O and I the rows and columns of a matrix, R its rank, B the rows of a left factor.
"""

from __future__ import annotations

import array_api_compat

from coldfuse.fusion.block import Array


def thin_svd(matrix_OI: Array, *, size: float = 0.0) -> tuple[Array, Array, Array]:
    """Return U (O, R), the singular values above rounding (R) in descending order, and V^T (R, I).

    A singular value counts as 0 below max(O, I) times the largest one's rounding, as in `numpy.linalg.matrix_rank`; or
    times the rounding of `size`, the norm of what the matrix was computed from, if that is larger.
    """
    xp = array_api_compat.array_namespace(matrix_OI)
    U_OR, S_R, Vt_RI = xp.linalg.svd(matrix_OI, full_matrices=False)
    largest = max(float(xp.sum(S_R[:1])), size)  # a sum, as there is none where a side is 0
    rounding = max(matrix_OI.shape) * xp.finfo(matrix_OI.dtype).eps * largest
    rank = int(xp.sum(xp.astype(rounding < S_R, xp.int64)))
    return U_OR[:, :rank], S_R[:rank], Vt_RI[:rank, :]


def leading(matrix_OI: Array, count: int, *, size: float = 0.0) -> tuple[Array, Array, Array]:
    """Return the `count` largest singular triplets, or fewer if the rank is less; in arrays of their own."""
    xp = array_api_compat.array_namespace(matrix_OI)
    U_OR, S_R, Vt_RI = thin_svd(matrix_OI, size=size)
    U_OK, S_K, Vt_KI = (xp.asarray(part, copy=True) for part in (U_OR[:, :count], S_R[:count], Vt_RI[:count, :]))
    return U_OK, S_K, Vt_KI


def nearest_orthogonal(matrix_OI: Array) -> Array:
    """Return U V^T: what is nearest to the matrix among those with orthonormal columns (or rows), within its rank."""
    U_OR, _, Vt_RI = thin_svd(matrix_OI)
    return U_OR @ Vt_RI


def solve_from_right(right_BI: Array, positive_II: Array) -> Array:
    """Return the smallest X (B, I) that solves X A = `right_BI` for a symmetric A with no eigenvalue below 0.

    Where A has an eigenvalue of 0, to rounding, X has no component (the pseudo-inverse).
    """
    xp = array_api_compat.array_namespace(positive_II)
    values_I, vectors_II = xp.linalg.eigh(positive_II)
    rounding = values_I.shape[0] * xp.finfo(positive_II.dtype).eps
    rank = int(xp.sum(xp.astype(values_I > values_I[-1] * rounding, xp.int64)))
    vectors_IR, values_R = vectors_II[:, values_I.shape[0] - rank :], values_I[values_I.shape[0] - rank :]
    return (right_BI @ vectors_IR / values_R) @ vectors_IR.T
