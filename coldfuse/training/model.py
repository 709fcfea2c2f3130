"""A body with its head, and the names under which the base's files hold what a loaded body calls its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from coldfuse.errors import SchemaMismatchError
from coldfuse.naming.architecture import Architecture
from coldfuse.training.encoding import Intake, encode
from coldfuse.training.head import LinearHead, Loss, entropy
from coldfuse.training.moving import moving_tensors


class Classified(NamedTuple):
    """What a classifier says of a batch."""

    loss: Tensor | None
    """Mean loss over the batch; None for a batch without labels."""
    logits: Tensor
    """Shape (examples, outputs of the head)."""
    features: Tensor | None = None
    """What the body makes of each text, before dropout, shape (examples, H); None of a head on something else."""


class Classifier(nn.Module):
    """A shared body and a linear head on its mean-pooled features; the head never leaves the node.

    Only the body computes in bf16, where whoever calls has asked for that: the head stays in float32.
    """

    def __init__(
        self, body: nn.Module, head: LinearHead, *, dropout: float, intake: Intake | None = None, loss: Loss = entropy
    ) -> None:
        super().__init__()
        self.body, self.loss = body, loss
        self.intake = intake or Intake(max_length=1)
        self.dropout = nn.Dropout(dropout)
        num_classes, num_features = head.weight.shape
        self.head = nn.Linear(num_features, num_classes, device=next(body.parameters()).device)
        self.head.load_state_dict({"weight": head.weight, "bias": head.bias})

    def forward(self, labels: Tensor | None = None, **batch: Tensor) -> Classified:
        """Return loss and logits of a batch."""
        features = encode(self.body, batch)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.head(self.dropout(features))
            return Classified(None if labels is None else self.loss(logits, labels), logits, features)

    @property
    def config(self) -> Any:
        """Configuration of the body."""
        return self.body.config

    def get_input_embeddings(self) -> nn.Module:
        """Return the body's embedding of tokens."""
        table: nn.Module = self.body.get_input_embeddings()  # type: ignore[operator]
        return table

    def gradient_checkpointing_enable(self, **how: object) -> None:
        """Have the body compute its layers again on the way back, which saves the memory of what they gave."""
        self.body.gradient_checkpointing_enable(**how)  # type: ignore[operator]

    def activation_checkpointing_enable(self, **how: object) -> None:
        """Do the same, by the name that newer versions of transformers have for it."""
        self.body.activation_checkpointing_enable(**how)  # type: ignore[operator]

    def linear_head(self) -> LinearHead:
        """Return the head as it is now: the model's own memory, not a copy."""
        return LinearHead(weight=self.head.weight.detach(), bias=self.head.bias.detach())


def shared_tensors(body: nn.Module, schema_names: Collection[str]) -> dict[str, Tensor]:
    """Return the body's tensors that travel, by the names that the base's files give them.

    Names are matched as transformers matches them when it loads these files: `bert.` before them or not, `gamma` for a
    layer norm's weight, and whatever else it renames or takes apart. Tied tensors are one tensor. What the files do not
    have is private to this node, and integer and boolean buffers are no weights: neither travels. The tensors returned
    are the body's own, not copies, unless files hold them in another layout.

    Args:
        body: A model as it was loaded.
        schema_names: The names of all tensors in the base's files.

    Raises:
        SchemaMismatchError: None of the body's tensors has a name of the base.
    """
    architecture = Architecture(body)
    stored, tensors = architecture.stored_names(schema_names), body.state_dict()
    found = {stored[name]: tensor for name, tensor in tensors.items() if name in stored}
    shared: dict[str, Tensor] = {}
    places: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in {**found, **architecture.stored_parts(schema_names)}.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.is_floating_point() and place not in places:
            places.add(place)
            shared[name] = tensor
    if not shared:
        raise SchemaMismatchError(
            f"{type(body).__name__}: none of its tensors has a name of the base, such as "
            f"{min(schema_names, default='-')}; expected the base's own model folder"
        )
    return shared


def stored_parameters(body: nn.Module, schema_names: Collection[str]) -> dict[str, str]:
    """Return the name in the files of each parameter that they hold, by the body's own name; see `shared_tensors`."""
    own_names = {parameter.data_ptr(): name for name, parameter in body.named_parameters() if parameter.numel()}
    stored = {tensor.data_ptr(): name for name, tensor in shared_tensors(body, schema_names).items()}
    found = {own_names[place]: name for place, name in stored.items() if place in own_names}
    architecture = Architecture(body)  # a cut begins where the whole does
    return {own: name for own, name in found.items() if not architecture.is_part(name)}


def private_tensors(model: nn.Module, body: nn.Module, schema_names: Collection[str]) -> dict[str, Tensor]:
    """Return what training changes in the model and the base's files do not have, by the model's own names.

    Args:
        model: What is trained.
        body: The part of it that is a model of transformers, see `shared_tensors`.
        schema_names: The names of all tensors in the base's files.
    """
    architecture, held = Architecture(body), body.state_dict()
    in_memory = {architecture.in_memory(name) for name in schema_names}
    places = {held[name].data_ptr() for name in in_memory if name in held and held[name].numel()}
    return {name: tensor for name, tensor in moving_tensors(model).items() if tensor.data_ptr() not in places}


def stored_names_in(model: nn.Module, body: nn.Module, schema_names: Collection[str]) -> dict[str, str]:
    """Return the base's name of each parameter that its files have, by its name in the model around the body.

    Of a parameter that files hold in several parts, such as the experts of a mixture, it is that of the first part.

    Args:
        model: What is trained.
        body: The part of it that is a model of transformers.
        schema_names: The names of all tensors in the base's files.
    """
    architecture, own = Architecture(body), dict(body.named_parameters(remove_duplicate=False))
    stored: dict[int, str] = {}
    for name in sorted(schema_names):
        memory = architecture.in_memory(name)
        if memory in own:
            stored.setdefault(id(own[memory]), name)
    return {name: stored[id(p)] for name, p in model.named_parameters() if id(p) in stored}
