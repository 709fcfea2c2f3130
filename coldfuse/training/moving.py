"""What moves in a model as it is trained: what a checkpoint has to hold."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def moving_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all that training changes in a prepared model, by its own names: the model's memory, not copies.

    Parameters that ask for gradients, tied ones once, and the running means of normalisations. What an adapter draws
    once from its seed stays as it is.
    """
    kept = {id(buffer) for buffer in (*frozen_statistics(model), *_drawn(model))}
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    buffers = {name: b for name, b in model.named_buffers() if b.is_floating_point() and id(b) not in kept}
    return parameters | buffers


def freeze_statistics(model: nn.Module, *, all_of_them: bool = False) -> None:
    """Keep the running means of normalisations whose weights do not train: with momentum 0, no batch moves them."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and (all_of_them or not (module.affine and module.weight.requires_grad)):
            module.momentum = 0.0


def frozen_statistics(model: nn.Module) -> Iterator[Tensor]:
    """Return the running means that `freeze_statistics` keeps."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.momentum == 0.0:
            yield from module.buffers(recurse=False)


def _drawn(model: nn.Module) -> Iterator[Tensor]:
    """Return the buffers of PEFT's layers."""
    for module in model.modules():
        if hasattr(module, "get_base_layer"):
            yield from module.buffers()
