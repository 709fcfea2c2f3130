"""A model in memory, held against a release: the shared tensors go in and come out, the private ones are kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldfuse.attached.access import is_sharded, whole
from coldfuse.attached.own import Own, own_tensors, unwrapped
from coldfuse.attached.plan import Plan, make_plan
from coldfuse.attached.ranks import is_first, on_first
from coldfuse.attached.setting import before_of, change, keep, open_kept, set_kept, set_shared, source_of, spec_of
from coldfuse.durable import set_aside
from coldfuse.errors import CodecError
from coldfuse.naming.sharing import Share
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.tensor_reader import TensorReader

_LOG = logging.getLogger("coldfuse")

ReadChange = Callable[[str, int, int], NDArray[np.float64]]
"""read(base's name, first, count): some elements of the delta."""


@dataclass(frozen=True)
class Live:
    """A model in memory, and what of it is shared."""

    model: nn.Module
    owns: dict[str, Own]
    """Its tensors, by their own names without wrappers."""
    plan: Plan
    set_as: dict[str, torch.dtype] = field(default_factory=dict)
    """Dtype in which each shared tensor was set, by its own name."""

    @classmethod
    def hold(cls, model: nn.Module, base: Checkpoint | None, share: Share) -> Live:
        """Hold a model against a base, which only the first process has; raises as `make_plan`, in all processes."""
        told = on_first(lambda: make_plan(model, _given(base), share).as_told())
        return cls(model, own_tensors(model), Plan.of_told(told))

    def set_base(self, base: Checkpoint | None) -> None:
        """Set the release into the model: in the first process's words, the same everywhere."""
        self.set_as.update({name: self.owns[name].tensor.dtype for name in self.plan.shared})
        with _reading(base) as theta:
            set_shared(self.model, self.owns, self.plan.shared, theta)

    def set_private(self, path: Path) -> tuple[str, ...]:
        """Set what an earlier round kept of the private tensors; return those that no longer fit, which stay."""
        return self._set_from(path, self.plan.private)

    def set_adapter(self, path: Path) -> None:
        """Set the adapter that `keep_adapter` has kept, as far as it fits."""
        self._set_from(path, self.plan.adapters)

    def _set_from(self, path: Path, names: tuple[str, ...]) -> tuple[str, ...]:

        def compare() -> dict[str, object]:
            if not path.is_file():
                return {"fitting": [], "others": []}
            try:
                kept_before = open_kept(path)
            except CodecError as error:
                set_aside(path, str(error), then="what it held is as the model has it", tell=_LOG.warning)
                return {"fitting": [], "others": []}
            with kept_before as kept:
                fits = {name: _fits(kept, name, self.owns[name]) for name in names}
            return {
                "fitting": [n for n, fit in fits.items() if fit],
                "others": [n for n, fit in fits.items() if not fit],
            }

        told: Any = on_first(compare)
        if told["fitting"]:
            reader = open_kept(path) if is_first() else None
            try:
                set_kept(self.model, self.owns, told["fitting"], reader)
            finally:
                if reader is not None:
                    reader.close()
        return tuple(told["others"])

    @property
    def classes(self) -> str:
        """Names of the classes that its head tells apart, as its configuration has them; "" where it has none."""
        config = getattr(unwrapped(self.model), "config", None)
        return json.dumps(getattr(config, "id2label", None) or "", sort_keys=True, default=str)

    def keep_private(self, path: Path) -> None:
        """Keep the private tensors for the next round."""
        keep(self.model, self.owns, self.plan.private, path)

    def keep_adapter(self, path: Path) -> None:
        """Keep the adapter as it is, for the rounds that will begin with it."""
        keep(self.model, self.owns, self.plan.adapters, path)

    @property
    def is_sharded(self) -> bool:
        """True where no process holds the model whole."""
        return any(is_sharded(self.owns[name], self.model) for name in self.plan.shared)

    @property
    def trained_outside(self) -> tuple[str, ...]:
        """The base's names of shared weights that are trained beside PEFT's adapter."""
        found = (to for own, to in self.plan.shared.items() if self.owns[own].tensor.requires_grad)
        return tuple(sorted(set(found)))

    @contextmanager
    def changes(
        self, base: Checkpoint | None, scratch: Path, only: Collection[str] | None = None
    ) -> Iterator[tuple[tuple[str, ...], ReadChange]]:
        """Yield the base's names of what is shared, and what reads its delta, which works in the first process alone.

        Args:
            base: The release that was set; the first process has it.
            scratch: File to gather a sharded model in.
            only: Those that are asked for, by the base's names; None: all.
        """
        wanted = {own: to for own, to in self.plan.shared.items() if only is None or to in only}
        # Of PEFT's original and its copy of a module, the copy is trained.
        order = sorted(wanted.items(), key=lambda item: self.owns[item[0]].tensor.requires_grad)
        own_of = {to: own for own, to in order}
        with source_of(self.model, self.owns, own_of.values(), scratch) as source, _reading(base) as theta:

            def read(name: str, first: int, count: int) -> NDArray[np.float64]:
                own = own_of[name]
                now = source.read(own, first, count)
                before = before_of(_given(theta), name, first, count)
                return change(now, before, self.set_as.get(own, now.dtype), own)

            yield tuple(sorted(own_of)), read

    @property
    def is_adapted(self) -> bool:
        """True where adapters are trained in it, and what is shared are the weights that they adapt."""
        return bool(self.plan.adapters)

    def save_adapter(self, folder: Path) -> Path:
        """Have PEFT save the model's adapter, gathered tensor by tensor where it is sharded; return its own folder."""
        inner = unwrapped(self.model)
        names = [name for name in self.owns if name in set(self.plan.adapters) or ".modules_to_save." in name]
        gathered: dict[str, Tensor] | None = None
        if any(is_sharded(self.owns[name], self.model) for name in names):
            gathered = {}
            for name in names:
                with whole(self.owns[name], self.model) as tensor:
                    gathered[name] = tensor.cpu().clone() if is_first() else torch.empty(0)
        if is_first():
            inner.save_pretrained(
                str(folder), safe_serialization=True, save_embedding_layers=False, state_dict=gathered
            )
        (name,) = inner.peft_config
        return folder / name if (folder / name).is_dir() else folder  # PEFT's place for what is not named "default"


def _fits(kept: TensorReader, name: str, own: Own) -> bool:
    try:
        spec = kept.entry(name).spec
    except KeyError:
        return False
    return spec == spec_of(own.tensor)


@contextmanager
def _reading(base: Checkpoint | None) -> Iterator[TensorReader | None]:
    if base is None:
        yield None
    else:
        with TensorReader(base.files.values()) as theta:
            yield theta


def _given(value: Any) -> Any:
    if value is None:
        raise AssertionError("only the first process reads the base")
    return value
