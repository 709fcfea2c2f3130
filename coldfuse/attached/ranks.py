"""Several processes that train one model: the first one speaks with the federation, the others wait and are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

import torch
import torch.distributed as dist
from torch import Tensor

from coldfuse import errors
from coldfuse.errors import ColdfuseError, FederationError

BEAT_S = 5.0
"""Seconds between two words to those who wait: no backend waits for ever, and a round may take a day."""

_KINDS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ColdfuseError)
}
"""Errors that the first process may raise, by name."""

Told = Mapping[str, object]
"""What the first process says; JSON can hold it."""


def is_several() -> bool:
    """Tell whether other processes train with this one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Tell whether this process is the one that speaks."""
    return not is_several() or dist.get_rank() == 0


def meeting_device() -> torch.device:
    """Return the device on which the processes can exchange tensors."""
    if not is_several() or "gloo" in dist.get_backend_config():
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    return torch.device(kind.type, torch.accelerator.current_device_index()) if kind else torch.device("cpu")


def on_first(action: Callable[[], Told], *, stop: threading.Event | None = None) -> Told:
    """Return what the first process finds, in every process.

    Args:
        action: What it does; it may take as long as it likes, and must not use the processes' group.
        stop: Set where this process is interrupted, so that the action ends.

    Raises:
        ColdfuseError: The action raised it; the other processes raise the same kind with the same words, as what one
            process takes in its stride (a round that has closed) must not end the others.
    """
    if not is_several():
        return action()
    if not is_first():
        while not (said := _receive()):
            pass
        if "error" in said:
            kind = _KINDS.get(str(said.get("kind")), FederationError)
            raise kind(f"the first process could not go on: {said['error']}")
        return said
    return _speak(action, stop or threading.Event())


def _speak(action: Callable[[], Told], stop: threading.Event) -> Told:
    with ThreadPoolExecutor(1, thread_name_prefix="speaks") as pool:
        working = pool.submit(action)
        try:
            while not wait([working], timeout=BEAT_S).done:
                _send({})
        except BaseException:
            stop.set()
            raise
    error = working.exception()
    failed = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
    _send(failed if error else {**working.result(), "is_said": True})
    return working.result()


def agree(error: ColdfuseError | None) -> None:
    """Raise in every process what went wrong in the first one, once what all do together is over."""

    def tell() -> Told:
        if error is not None:
            raise error
        return {}

    on_first(tell)


def _send(said: Told) -> None:
    data = json.dumps(said).encode()
    device = meeting_device()
    dist.broadcast(torch.tensor([len(data)], device=device), 0)
    dist.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device), 0)


def _receive() -> Told:
    device = meeting_device()
    length = torch.zeros(1, dtype=torch.long, device=device)
    dist.broadcast(length, 0)
    data = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(data, 0)
    said: dict[str, object] = json.loads(data.cpu().numpy().tobytes())
    return said


def spread(tensor: Tensor) -> Tensor:
    """Give every process the first one's elements; the tensor is filled where it lies on a device for that."""
    if not is_several():
        return tensor
    there = tensor.to(meeting_device())
    dist.broadcast(there, 0)
    return tensor.copy_(there) if there is not tensor else tensor
