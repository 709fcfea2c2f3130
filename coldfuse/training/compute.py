"""Where and how torch computes: the device, the number of threads, bf16 where it is native, and reproducibly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from coldfuse.errors import UserInputError


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes a CUDA GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def to_device(module: nn.Module, name: str) -> nn.Module:
    """Move a module to the device called `name`. Raises `UserInputError` where there is none of that name."""
    try:
        return module.to(pick_device(name))
    except (RuntimeError, AssertionError) as error:  # torch says the one or the other
        first_line = str(error).partition("\n")[0]
        raise UserInputError(f"device {name!r} cannot be used: {first_line}") from error


def native_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bf16 where the hardware multiplies bf16 itself (twice the speed); elsewhere stay in float32."""
    if computes_bf16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def keep_float32(body: nn.Module) -> None:
    """Have this body compute in float32 wherever it is run: `native_autocast` around it has no effect on it."""
    device = next(body.parameters()).device
    body.forward = torch.autocast(device.type, enabled=False)(body.forward)


def computes_bf16(device: torch.device) -> bool:
    """Tell whether the device has instructions for bf16 products; emulating them would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch cannot tell
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def compute_threads(number: int | None) -> Iterator[None]:
    """Compute on this many threads, or on torch's own choice, and leave its setting as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def reproducible(*, seed: int, device: str, threads: int | None) -> Iterator[None]:
    """Compute with seeded, deterministic arithmetic, and leave all global settings and random states as they were."""
    others = random.getstate(), np.random.get_state()
    memory: Any = torch.utils.deterministic  # its one setting is invisible to mypy
    fill = memory.fill_uninitialized_memory
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    devices = [pick_device(device)] if pick_device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices), compute_threads(threads):
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)  # a GPU kernel may have no deterministic twin
            memory.fill_uninitialized_memory = False  # costs time, and nothing here reads it
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
            memory.fill_uninitialized_memory = fill
            random.setstate(others[0])
            np.random.set_state(others[1])
