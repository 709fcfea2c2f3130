"""Federations for tests of people's own training: an aggregator on threads that leads round after round."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_rounds import lead, read_release

from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore


def federation_of(root: Path, base: Path, *, method: str = "mean", **rules: object) -> Federation:
    """Create a federation of a base whose rounds close with one contribution."""
    rules = {"quorum": 1, "deadline_s": 600.0} | rules
    store = LocalStore(root / "store")
    return create_federation(store, name="tiny", base=base, origin="base", method=method, rules=rules)


@contextmanager
def aggregating(federation: Federation) -> Iterator[None]:
    """Lead its rounds, one after the other, until the block ends."""
    stop, failed = threading.Event(), []

    def run() -> None:
        try:
            while not stop.wait(0.02):
                lead(federation, federation.current_round())
        except Exception as error:  # noqa: BLE001 - a test that waits for it has to know
            failed.append(error)

    thread = threading.Thread(target=run, name="aggregator")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        assert not failed, failed


def write_tensors(folder: Path, state: Mapping[str, torch.Tensor]) -> Path:
    """Write a base of a module of somebody's own: a folder with weights and nothing else."""
    folder.mkdir(parents=True)
    save_file(
        {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, folder / "model.safetensors"
    )
    return folder


def released(federation: Federation, number: int | None = None) -> dict[str, torch.Tensor]:
    """Read a release's floats from the store."""
    model = read_release(federation, number)
    return {name: torch.from_numpy(tensor.floats.copy()) for name, tensor in model.items() if tensor.spec.is_fused}
