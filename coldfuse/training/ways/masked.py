"""A few elements of the weights are trained, chosen once: FISH masks (arXiv 2111.09839), or at random, or by size.

    mask = top-k of F over all shared weights, k = density · their number        kind=fisher
    F_k  = mean over examples of (∂ loss / ∂θ_k)², with the examples' labels, at the base

Gradients outside the mask are zero, and so are Adam's steps there. The mask holds for a number of rounds, whatever is
added to the data meanwhile, but not for another task or seed: it lies in the node's folder, with the first of its
rounds. Of equal elements the earlier are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change, ChangesByName, SparseChange
from coldfuse.training.moving import freeze_statistics, frozen_statistics
from coldfuse.training.schedule import derive_seed
from coldfuse.training.ways.kept import read_tensors, write_tensors
from coldfuse.training.ways.way import Base, Parameters, Preparation, Way, difference, freeze_embeddings

Mask = Mapping[str, Tensor]
"""Indices of the elements of each parameter that train, ascending, by the model's own names."""

_MASKS: MutableMapping[nn.Module, Mask] = WeakKeyDictionary()
"""The mask of each model that is being trained, for as long as the model is there."""


class Masked(Way):
    """Some elements of the weights are trained, chosen once for some rounds."""

    name: ClassVar = "masked"
    trains: ClassVar = "a share of the weights' elements"
    sends: ClassVar = "the elements' values and places"
    source: ClassVar = "FISH mask (arXiv 2111.09839)"

    by: Literal["fisher", "random", "magnitude"] = Field(default="fisher", alias="kind")
    """How elements are chosen: by the Fisher information of the node's data, at random, or the largest weights."""
    density: float = Field(default=0.005, gt=0, le=1)
    """Share of the elements of all shared weights."""
    rounds: int = Field(default=10, ge=1)
    """Rounds for which a mask holds."""
    examples: int = Field(default=1024, ge=1)
    """Examples that the Fisher information is computed from."""

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Choose the elements, or take the mask of an earlier round, and keep gradients to them."""
        if self.freeze_embeddings:
            freeze_embeddings(model, shared)
        trained = {name: parameter for name, parameter in shared.items() if parameter.requires_grad}
        mask = self._kept(trained, preparation) or self._choose(model, trained, preparation)
        for name, parameter in trained.items():
            if name in mask:
                indices = mask[name].to(parameter.device)
                parameter.register_post_accumulate_grad_hook(partial(_keep_to, indices=indices))  # type: ignore[no-untyped-call]
            else:
                parameter.requires_grad_(False)
        freeze_statistics(model, all_of_them=True)
        _MASKS[model] = mask
        return model

    def changes(self, model: nn.Module, base: Base) -> Mapping[str, Change]:
        """Return the values at the mask's elements, by the base's names."""
        own = {p.data_ptr(): (name, p) for name, p in model.named_parameters()}
        makers: dict[str, Callable[[], Change]] = {}
        kept = {buffer.data_ptr() for buffer in frozen_statistics(model)}
        for name, tensor in base.tensors(model).items():
            if tensor.data_ptr() in kept:
                continue
            owner, parameter = own.get(tensor.data_ptr(), ("", None))
            if parameter is None or parameter.requires_grad:
                whole = None if parameter is None or tensor.shape != parameter.shape else _MASKS[model].get(owner)
                makers[name] = partial(_sparse, name, tensor, base=base, indices=whole)
        return ChangesByName(makers, lambda name: makers[name]())

    def _choose(self, model: nn.Module, trained: Parameters, preparation: Preparation) -> Mask:
        scores = self._scores(model, trained, preparation)
        mask = top_elements(scores, max(1, round(self.density * sum(s.numel() for s in scores.values()))))
        if not mask:
            raise UserInputError(f"--train {self.line()}: no element says anything on these data; choose another kind")
        if preparation.folder is not None:
            new = preparation.folder / self._file(trained, preparation, preparation.round)
            write_tensors(new, mask)
            for path in preparation.folder.glob(f"mask-*-{new.name.rpartition('-')[2]}"):
                if int(path.name.split("-")[1]) <= preparation.round - self.rounds:  # it holds no longer
                    path.unlink()
        return mask

    def _scores(self, model: nn.Module, trained: Parameters, preparation: Preparation) -> dict[str, Tensor]:
        """Return what elements are chosen by, for each parameter."""
        if self.by == "magnitude":
            return {name: parameter.detach().abs().float() for name, parameter in trained.items()}
        if self.by == "random":
            seeds = {name: derive_seed(preparation.seed, "mask", preparation.round, name) for name in trained}
            return {
                name: torch.rand(parameter.shape, generator=torch.Generator().manual_seed(seeds[name]))
                for name, parameter in trained.items()
            }
        from coldfuse.training.ways.fisher import empirical_fisher

        return empirical_fisher(model, preparation.examples(self.examples), names=trained)

    def _kept(self, trained: Parameters, preparation: Preparation) -> Mask | None:
        """Return the mask of an earlier round, or of this one, that still holds."""
        if preparation.folder is None:
            return None
        earliest = max(0, preparation.round - self.rounds + 1)
        rounds = range(preparation.round, earliest - 1, -1)
        files = [preparation.folder / self._file(trained, preparation, number) for number in rounds]
        return next((read_tensors(file) for file in files if file.exists()), None)

    def _file(self, trained: Parameters, preparation: Preparation, first_round: int) -> str:
        """Return the name of the file of a mask that was chosen in a round, for these parameters, task and seed."""
        shapes = [(name, list(parameter.shape)) for name, parameter in sorted(trained.items())]
        chosen_for = [self.line(), shapes, preparation.task, preparation.seed]
        return f"mask-{first_round}-{sha256(canonical_json(chosen_for))[:16]}.safetensors"


def top_elements(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return the indices of the `count` largest positive elements of all tensors together, ascending in each.

    Of equal ones the earlier are taken, in the order of the names.

    >>> top_elements({"a": torch.tensor([1.0, 3.0, 2.0]), "b": torch.tensor([2.0, 0.0])}, 2)
    {'a': tensor([1, 2])}
    """
    names = sorted(scores)
    flat = torch.cat([scores[name].reshape(-1).float().cpu() for name in names])
    count = min(count, int((flat > 0).sum()))
    if count == 0:
        return {}
    least = flat.kthvalue(flat.numel() - count + 1).values
    chosen = flat > least
    equal = torch.nonzero(flat == least).reshape(-1)
    chosen[equal[: count - int(chosen.sum())]] = True
    parts = torch.split(chosen, [scores[name].numel() for name in names])
    found = {name: torch.nonzero(part).reshape(-1) for name, part in zip(names, parts, strict=True)}
    return {name: indices for name, indices in found.items() if len(indices)}


def masked_parameters(model: nn.Module) -> frozenset[str]:
    """Return the names of parameters that train at some elements only, and so must not decay."""
    return frozenset(_MASKS.get(model, {}))


def _keep_to(parameter: Tensor, *, indices: Tensor) -> None:
    """Set a gradient to zero but for some elements."""
    if parameter.grad is not None:
        flat = parameter.grad.view(-1)
        values = flat[indices]
        flat.zero_()
        flat[indices] = values


def _sparse(name: str, tensor: Tensor, *, base: Base, indices: Tensor | None) -> SparseChange:
    delta = difference(name, tensor, base).read(0, tensor.numel())
    places = np.flatnonzero(delta) if indices is None else indices.cpu().numpy()
    return SparseChange(places, delta[places], is_fixed=indices is not None)
