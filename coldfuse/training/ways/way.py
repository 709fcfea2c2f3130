"""What is trained of a model, and what of it travels: the shape that every way of training has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change, DenseChange
from coldfuse.training.moving import frozen_statistics, moving_tensors

__all__ = [
    "Base",
    "Batch",
    "Parameters",
    "Preparation",
    "Tensors",
    "Way",
    "difference",
    "freeze_all_but",
    "freeze_embeddings",
    "moving_tensors",
    "no_examples",
]

Parameters = Mapping[str, nn.Parameter]
"""Parameters by the model's own names."""

Tensors = Callable[[nn.Module], Mapping[str, Tensor]]
"""tensors(model): return the model's tensors that the base has, by the base's names."""

Batch = Mapping[str, Tensor]
"""What a model is called with: `model(**batch)` returns an output with a loss."""


def no_examples(_count: int) -> Iterable[Batch]:
    """Return no batches."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a way may need beside the model."""

    seed: int = 0
    """Seed of the run: what is drawn at random follows from it."""
    round: int = 1
    """Number of the round."""
    task: str = ""
    """Line of the task that is trained: what is chosen for one is not for another."""
    examples: Callable[[int], Iterable[Batch]] = no_examples
    """examples(count): return batches of one training example each, at most that many, the same ones at each call."""
    folder: Path | None = None
    """Folder of the node in which a way keeps what lasts over rounds; None: it keeps nothing."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base that a model was fine-tuned from."""

    tensors: Tensors
    """tensors(model): return the model's tensors that the base has, by the base's names; see `shared_tensors`."""
    floats: Callable[[str, int, int], NDArray[np.float64]]
    """floats(name, first, count): return some elements of one of the base's tensors."""


class Way(BaseModel, ABC):
    """A way of training; its fields are its parameters.

    `prepare` freezes and wraps a model before an optimiser is made for what still asks for gradients; `changes` says
    after training what became of the base's tensors. What the base does not have, such as a head, always trains.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, use_attribute_docstrings=True
    )

    name: ClassVar[str]
    """Name in recipes and manifests."""
    trains: ClassVar[str]
    """What is trained, in a few words."""
    sends: ClassVar[str]
    """What travels, in a few words."""
    source: ClassVar[str]
    """The paper, or the implementation that defines it."""

    freeze_embeddings: bool = False
    """True leaves embeddings as they are: the rows that move name the words that were seen."""

    @property
    def kind(self) -> str:
        """Name of the way, for manifests."""
        return self.name

    def line(self) -> str:
        """Return the way with every parameter: equal lines train equally."""
        given = {key: value for key, value in self.model_dump(mode="json", by_alias=True).items() if value is not None}
        return f"{self.name}({', '.join(f'{key}={_text(value)}' for key, value in given.items())})"

    def prepare(
        self, model: nn.Module, stored_names: Mapping[str, str], preparation: Preparation | None = None
    ) -> nn.Module:
        """Freeze and wrap a model, before its optimiser is made, and return what is to be trained.

        Args:
            model: The model; it is changed in place.
            stored_names: The base's name of each parameter that the base has, by the model's own name.
            preparation: What else a way may need.

        Raises:
            UserInputError: This model cannot be trained this way.
        """
        shared = shared_parameters(model, stored_names)
        private = {id(parameter) for parameter in model.parameters()} - {id(p) for p in shared.values()}
        made = self.select(model, shared, preparation or Preparation())
        if self.freeze_embeddings:
            freeze_embeddings(made, shared)
        if not any(p.requires_grad and id(p) not in private for p in made.parameters()):
            raise UserInputError(
                f"--train {self.name}: of {type(model).__name__} nothing that is shared would be trained"
                f"{', as embeddings are frozen' if self.freeze_embeddings else ''}; choose another way"
            )
        return made

    @abstractmethod
    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze what is shared and does not train, wrap what is to be wrapped, and return the model.

        Args:
            model: The model, which may be changed.
            shared: The parameters that the base has, by the model's own names.
            preparation: What else may be needed.
        """

    def changes(self, model: nn.Module, base: Base) -> Mapping[str, Change]:
        """Return what became of the base's tensors, by the base's names; the model is unwrapped for it.

        Nothing large is made before it is read: a dense change reads the model's own memory and the base's file.

        Args:
            model: The model that `prepare` returned, once it is trained.
            base: The base.
        """
        frozen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
        frozen |= {buffer.data_ptr() for buffer in frozen_statistics(model)}
        tensors = base.tensors(model)
        return {name: difference(name, t, base) for name, t in tensors.items() if t.data_ptr() not in frozen}

    def finetuned(self, model: nn.Module, tensors: Tensors) -> Mapping[str, Tensor]:
        """Return the tensors of the fine-tuned model that the base has, by the base's names; the model is unwrapped.

        Args:
            model: The model that `prepare` returned, once it is trained.
            tensors: Finds the tensors in a model, see `Base`.
        """
        return tensors(model)


def shared_parameters(model: nn.Module, stored_names: Mapping[str, str]) -> Parameters:
    """Return the parameters that the base has, by the model's own names; tied ones once."""
    found, seen = dict[str, nn.Parameter](), set[int]()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in stored_names and id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = parameter
    return found


def freeze_all_but(shared: Parameters, trained: Collection[str]) -> None:
    """Freeze the shared parameters but some; what was frozen before stays so."""
    for name, parameter in shared.items():
        if name not in trained:
            parameter.requires_grad_(False)


def freeze_embeddings(model: nn.Module, shared: Parameters) -> None:
    """Freeze the rows that are looked up by tokens, positions and the like.

    Raises:
        UserInputError: There are none among what is shared.
    """
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    weights += [module.weight for module in _input_embeddings(model) if isinstance(module.weight, nn.Parameter)]
    own = {id(parameter) for parameter in shared.values()}
    found = [weight for weight in weights if id(weight) in own]
    if not found:
        raise UserInputError(f"--freeze-embeddings: {type(model).__name__} shares no embeddings; leave it out")
    for weight in found:
        weight.requires_grad_(False)


def _input_embeddings(model: nn.Module) -> Iterator[nn.Module]:
    """Return what models say embeds their input, of whatever class it is."""
    for module in model.modules():
        with suppress(AttributeError, NotImplementedError, TypeError):
            found = module.get_input_embeddings()  # type: ignore[operator]
            if isinstance(found, nn.Module) and hasattr(found, "weight"):
                yield found


def difference(name: str, tensor: Tensor, base: Base) -> DenseChange:
    """Return θ_i − θ_t of a tensor, worked out in float64 as it is read."""
    flat = tensor.detach().reshape(-1)

    def read(first: int, count: int) -> NDArray[np.float64]:
        values = flat[first : first + count].to("cpu", torch.float64).numpy()
        return np.asarray(values - base.floats(name, first, count))

    return DenseChange(read)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{text}"' if "," in (text := ",".join(value) if isinstance(value, list | tuple) else str(value)) else text
