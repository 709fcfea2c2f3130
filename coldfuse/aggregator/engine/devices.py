"""Where whole matrices are worked on: numpy on the CPU, torch on a GPU. Everything else is as fast as it is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Array, Float64

CPU = "cpu"

_lock = threading.Lock()
_limits: list[threadpool_limits] = []
"""One for each matrix that is worked on now; the first one limits, and the last one to go lifts the limit."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep numpy's BLAS to one thread: the workers are the parallel part, and more threads would change last bits."""
    with _lock:
        _limits.append(_limits[0] if _limits else threadpool_limits(1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()


def require_device(device: str) -> None:
    """Raise `UserInputError` if torch has no such device."""
    if device == CPU:
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        reason = str(error).splitlines()[0]
        raise UserInputError(f"--device {device}: {reason}; expected cpu, or a GPU such as cuda or cuda:1") from error


def to_device(matrix: Float64, device: str) -> Array:
    """Move a matrix to where it is worked on."""
    if device == CPU:
        return matrix
    import torch

    return torch.from_numpy(matrix).to(device)


def to_cpu(matrix: Array) -> Float64:
    """Return a matrix as flat numbers on the CPU."""
    on_cpu = matrix if isinstance(matrix, np.ndarray) else matrix.cpu().numpy()
    return np.ascontiguousarray(on_cpu, np.float64).reshape(-1)
