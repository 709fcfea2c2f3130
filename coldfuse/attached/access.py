"""One tensor whole, wherever it lies: at once in this process, in shares of several (FSDP), or partitioned (ZeRO-3).

Never more than one tensor is whole at a time (FSDP of the first version: one of its units, which gathers nothing
smaller). Every process has to ask for the same tensors in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.attached.own import Own
from coldfuse.attached.ranks import is_first, is_several, meeting_device, spread

Shape = tuple[int, ...]


def whole_shape(tensor: Any) -> Shape:
    """Return the shape of a tensor as it is whole."""
    return tuple(int(size) for size in getattr(tensor, "ds_shape", tensor.shape))


def is_sharded(own: Own, root: nn.Module) -> bool:
    """Tell whether no process holds the tensor whole."""
    return _is_shared_out(own.tensor) or hasattr(own.tensor, "ds_id") or _unit_of(own, root) is not None


def _is_shared_out(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor") and hasattr(tensor, "placements")  # a DTensor, of FSDP2


@contextmanager
def whole(own: Own, root: nn.Module) -> Iterator[Tensor]:
    """Yield a tensor whole, to be read."""
    tensor = own.tensor
    if _is_shared_out(tensor):
        yield tensor.detach().full_tensor()  # type: ignore[attr-defined]
    elif hasattr(tensor, "ds_id"):
        with _gathered(tensor, writes=False):
            yield tensor.detach()
    elif (unit := _unit_of(own, root)) is not None:
        with _summoned(unit, writes=False):
            yield own.tensor.detach()
    else:
        yield tensor.detach()


def put(own: Own, root: nn.Module, fill: Callable[[Tensor], None]) -> None:
    """Give a tensor new elements, the same in all processes.

    Args:
        own: The tensor.
        root: The model that it is in.
        fill: Called with a tensor of its shape and dtype to be filled, in the first process alone.
    """
    tensor = own.tensor
    with torch.no_grad():
        if _is_shared_out(tensor):
            _put_share(tensor, _filled(tensor, fill))
        elif hasattr(tensor, "ds_id"):
            with _gathered(tensor, writes=True):
                tensor.copy_(_filled(tensor, fill))
        elif (unit := _unit_of(own, root)) is not None:
            with _summoned(unit, writes=True):
                own.tensor.copy_(_filled(own.tensor, fill))
        elif tensor.is_meta:  # FSDP fills what only the first process has loaded
            _filled(tensor, fill)
        else:
            _put_plain(tensor, fill)


def _put_plain(tensor: Tensor, fill: Callable[[Tensor], None]) -> None:
    if not is_several() and tensor.is_contiguous() and tensor.device.type == "cpu":
        fill(tensor.detach())
    else:
        tensor.copy_(_filled(tensor, fill))


def _filled(tensor: Any, fill: Callable[[Tensor], None]) -> Tensor:
    made = torch.empty(whole_shape(tensor), dtype=tensor.dtype)
    if is_first():
        fill(made)
    return spread(made.to(meeting_device()))


def _put_share(tensor: Any, value: Tensor) -> None:
    from torch.distributed.tensor import distribute_tensor

    share = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.to_local().copy_(share.to_local())


@contextmanager
def _gathered(tensor: Tensor, *, writes: bool) -> Iterator[None]:
    """Have DeepSpeed gather a parameter that ZeRO-3 has partitioned."""
    import deepspeed

    with deepspeed.zero.GatheredParameters([tensor], modifier_rank=0 if writes else None):
        yield


@contextmanager
def _summoned(unit: nn.Module, *, writes: bool) -> Iterator[None]:
    """Have FSDP of the first version gather one of its units."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    with FullyShardedDataParallel.summon_full_params(unit, recurse=False, writeback=writes):
        yield


def _unit_of(own: Own, root: nn.Module) -> nn.Module | None:
    """Return the unit of FSDP's first version that holds a tensor; None where there is none, as mostly."""
    if not torch.distributed.is_available():
        return None
    from torch.distributed.fsdp import FullyShardedDataParallel

    units = FullyShardedDataParallel.fsdp_modules(root)
    if not units:
        return None
    return _deepest(units, own.module)


def _deepest(units: list[Any], module: nn.Module) -> nn.Module | None:
    """Return the innermost of the units that a module lies in: the last of them, in the order of the model."""
    found = None
    for unit in units:
        if any(other is module for other in unit.modules()):
            found = unit
    return found
