"""Statistics as they travel: coded tensor by tensor, Gram matrices by their upper triangle and still Gram matrices.

Coding moves every number a little, and a matrix with moved numbers may have directions in which it is negative: no
inputs have such products. So its correlations are shortened until it has none, which takes about as much as the coding
changed.

Letters: I inputs of a layer, N numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import Raw
from coldfuse.core.statistics import Coding, StatisticsKind
from coldfuse.errors import UserInputError
from coldfuse.tensors.codes import BLOCK, coded_bytes, decode_values, encode_values
from coldfuse.tensors.deltas import write_safetensors
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.statistics import StatisticsInfo, coded_size, statistics_header

Float64 = NDArray[np.float64]

_AT_A_TIME = 256 * BLOCK
"""Number of elements that are coded at a time."""

_NEGATIVE = 1e-6
"""How far below 0 a direction of a Gram matrix may be, of one whose diagonal is 1: rounding, and a fused system with a
diagonal of its own stays solvable."""

_FIRST_SHORTENING = 2.0**-13
_CODINGS: dict[StatisticsKind, Coding] = {"fisher": "log8", "variance": "log8", "gram": "F16"}


def usual_coding(kind: StatisticsKind) -> Coding:
    """Return the coding that suits a kind: 5 % are below what an estimate is off by, but not below what a matrix bears.

    >>> usual_coding("fisher"), usual_coding("gram")
    ('log8', 'F16')
    """
    return _CODINGS[kind]


def all_coded_bytes(shapes: Mapping[str, tuple[int, ...]], kind: StatisticsKind, coding: Coding) -> int:
    """Return how many bytes statistics of these shapes take, without their file's header."""
    return sum(coded_size(shape, kind, coding) for shape in shapes.values())


def write_coded_statistics(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], NDArray[np.floating]],
    info: StatisticsInfo,
    *,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[Blob, float]:
    """Write statistics as they travel.

    Args:
        path: The file; it is there whole or not at all.
        shapes: The shape of each tensor.
        read: Returns a tensor; called once for each, in the order of their names.
        info: What the file says of itself, with its coding.
        progress: Told of the fraction that is done.

    Returns:
        The file's parts, and the length of what coding changed over that of the numbers.

    Raises:
        UserInputError: A number cannot be: not finite, negative where none is, or no Gram matrix's.
    """
    header = statistics_header(shapes, info)
    writer = _Writer(read, info, path)
    total = max(sum(math.prod(shape) for shape in shapes.values()), 1)

    def read_piece(piece: Piece) -> Raw:
        data = writer.coded(piece.tensor.name)
        progress(min(writer.num_done / total, 1.0))
        return np.frombuffer(data, np.uint8, piece.num_elements, piece.first)

    blob = write_safetensors(path, header, read_piece)
    return blob, writer.error


class _Writer:
    """Codes one tensor after the other, and sums up what that changes."""

    def __init__(self, read: Callable[[str], NDArray[np.floating]], info: StatisticsInfo, path: Path) -> None:
        self._read, self._info, self._path = read, info, path
        self._coding: Coding = info.coding or "F16"
        self._held: tuple[str, bytes] = ("", b"")
        self._squares, self._changes, self.num_done = 0.0, 0.0, 0

    @property
    def error(self) -> float:
        """Length of the difference over that of the numbers."""
        return min(math.sqrt(self._changes / self._squares), 1.0) if self._squares else 0.0

    def coded(self, name: str) -> bytes:
        """Return a tensor's codes; the pieces of one come one after the other."""
        if self._held[0] != name:
            self._held = name, self._code(name)
        return self._held[1]

    def _code(self, name: str) -> bytes:
        values = self._read(name)
        if problem := why_no_statistics(values, self._info.kind):
            raise UserInputError(f"{self._path}: statistics of {name}: {problem}; has the training diverged?")
        if self._info.kind != "gram":
            return self._code_values(np.ascontiguousarray(values).reshape(-1))
        matrix_II = _without_dead(np.asarray(values, np.float64))
        shortening = 0.0
        while True:
            data = encode_gram(matrix_II, self._coding, shortening=shortening)
            made_II = decode_gram(np.frombuffer(data, np.uint8), len(matrix_II), self._coding)
            if is_gram(made_II):
                break
            shortening = max(2 * shortening, _enough(made_II), _FIRST_SHORTENING)
        self._count(matrix_II.reshape(-1), made_II.reshape(-1))
        return data

    def _code_values(self, flat: NDArray[np.floating]) -> bytes:
        coded = []
        for start in range(0, len(flat), _AT_A_TIME):
            values_N = flat[start : start + _AT_A_TIME].astype(np.float64)
            coded.append(encode_values(values_N, self._coding, is_signed=False))
            raw = np.frombuffer(coded[-1], np.uint8)
            self._count(values_N, decode_values(raw, len(values_N), self._coding, is_signed=False))
        return b"".join(coded)

    def _count(self, wanted_N: Float64, made_N: Float64) -> None:
        self._squares += float(np.einsum("n,n->", wanted_N, wanted_N))
        change_N = made_N - wanted_N
        self._changes += float(np.einsum("n,n->", change_N, change_N))
        self.num_done += len(wanted_N)


def why_no_statistics(values: NDArray[np.floating], kind: StatisticsKind) -> str | None:
    """Say why numbers are no statistics of this kind, as far as each number tells; None if they may be some."""
    if not np.isfinite(values).all():
        return f"{int(np.count_nonzero(~np.isfinite(values)))} of its numbers are NaN or infinite"
    if kind != "gram":
        least = float(values.min(initial=0.0))
        return f"holds {least:g}, and nothing of it is negative" if least < 0 else None
    if values.ndim == 2 and not np.allclose(
        values, values.T, rtol=1e-4, atol=1e-6 * float(np.abs(values).max(initial=0))
    ):
        return "is not symmetric, as products of inputs are"
    return None


def is_gram(matrix_II: Float64) -> bool:
    """Tell whether a symmetric matrix may be one of inner products: nothing is negative in any direction."""
    moment_I = matrix_II.diagonal().copy()
    if not (moment_I >= 0).all():
        return False
    is_there_I = moment_I > 0
    if matrix_II[~is_there_I].any():
        return False
    with np.errstate(over="ignore", under="ignore"):
        scale_I = 1 / np.sqrt(np.where(is_there_I, moment_I, 1.0))
        unit_II = matrix_II * scale_I * scale_I[:, None]
    np.fill_diagonal(unit_II, 1.0 + _NEGATIVE)
    if not np.isfinite(unit_II).all():
        return False
    try:
        np.linalg.cholesky(unit_II)
    except np.linalg.LinAlgError:
        return False
    return True


def encode_gram(matrix_II: Float64, coding: Coding, *, shortening: float = 0.0) -> bytes:
    """Write a Gram matrix as codes, its correlations shortened by a fraction."""
    moment_I = matrix_II.diagonal().copy()
    scale_I = 1 / np.sqrt(np.where(moment_I > 0, moment_I, 1.0))
    rows = [matrix_II[i, i + 1 :] * scale_I[i] * scale_I[i + 1 :] for i in range(len(matrix_II))]
    above_N = np.concatenate(rows) if rows else np.empty(0)
    above_N *= max(1 - shortening, 0.0)
    return encode_values(np.sqrt(moment_I), "F16", is_signed=False) + encode_values(above_N, coding, is_signed=True)


def decode_gram(raw: Raw, size: int, coding: Coding) -> Float64:
    """Read a Gram matrix; what no number is coded as comes out as infinity or NaN."""
    diagonal_bytes = coded_bytes(size, "F16")
    root_I = decode_values(raw[:diagonal_bytes], size, "F16", is_signed=False)
    above_N = decode_values(raw[diagonal_bytes:], size * (size - 1) // 2, coding, is_signed=True)
    matrix_II = np.empty((size, size))
    start = 0
    with np.errstate(invalid="ignore", over="ignore"):
        moment_I = root_I * root_I
        for i in range(size):
            row = above_N[start : start + size - i - 1] * root_I[i] * root_I[i + 1 :]
            matrix_II[i, i], matrix_II[i, i + 1 :], matrix_II[i + 1 :, i] = moment_I[i], row, row
            start += size - i - 1
    return matrix_II


def _enough(matrix_II: Float64) -> float:
    """Return by how much correlations are to be shortened so that no direction is negative: (1 − s) λ + s ≥ 0."""
    root_I = np.sqrt(np.where(matrix_II.diagonal() > 0, matrix_II.diagonal(), 1.0))
    least = float(np.linalg.eigvalsh(matrix_II / root_I / root_I[:, None])[0])
    return 1.25 * -least / (1 - least) if least < 0 else 0.0


def _without_dead(matrix_II: Float64) -> Float64:
    """Return a matrix whose inputs of no moment have no products either: those of tiny ones are float32's rounding."""
    is_dead_I = matrix_II.diagonal() <= 0
    if not is_dead_I.any():
        return matrix_II
    matrix_II = matrix_II.copy()
    matrix_II[is_dead_I], matrix_II[:, is_dead_I] = 0.0, 0.0
    return matrix_II
