"""Where whole matrices are worked on: by numpy on the CPU, or by torch on a device, such as a GPU.

They are moved there one by one; blocks of elements never are, as the CPU is done with them sooner than they are sent.
What comes back is the same to rounding: SVDs and solves have their routines' own bounds, and an inner product over n
elements is off by at most 2 n 2⁻⁵³ Σ |a b|, as the order of its sum is the library's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from threadpoolctl import threadpool_limits

from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion.block import Array, Float64

CPU = "cpu"

_own = threading.local()
"""A stream of each GPU, by name: making one costs more than a small task."""

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


@contextmanager
def decompositions() -> Iterator[None]:
    """Raise `FusionError` where numpy or torch give up on a decomposition."""
    try:
        yield
    except (np.linalg.LinAlgError, RuntimeError) as error:
        if "LinAlgError" not in type(error).__name__:  # torch's is a RuntimeError, as is much else
            raise
        raise FusionError(f"no solution was found ({str(error).splitlines()[0]}); take another method") from error


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


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Let what this thread does on a GPU go on beside what other threads do there.

    Raises:
        UserInputError: The GPU's memory does not suffice for all of them.
    """
    if device == CPU:
        yield
        return
    import torch

    streams: dict[str, torch.cuda.Stream | None] = _own.__dict__
    if device not in streams:
        is_gpu = torch.device(device).type == "cuda"
        streams[device] = torch.cuda.Stream(device) if is_gpu else None  # type: ignore[no-untyped-call]
    try:
        with torch.cuda.stream(streams[device]):  # None: does nothing
            yield
    except torch.OutOfMemoryError as error:
        raise UserInputError(f"--device {device}: {str(error).splitlines()[0]}; give fewer --workers") from error


def to_device(matrix: Float64, device: str) -> Array:
    """Move a matrix to where it is worked on: a torch tensor on a GPU, or the same array on the CPU."""
    if device == CPU:
        return matrix
    import torch

    return torch.from_numpy(matrix).to(device)


def to_cpu(matrix: Array) -> Float64:
    """Return a matrix as flat numbers on the CPU."""
    return np.ascontiguousarray(to_numpy(matrix), np.float64).reshape(-1)


def to_numpy(array: Array) -> Float64:
    """Return an array as numpy's."""
    return array if isinstance(array, np.ndarray) else cast(Float64, array.cpu().numpy())
