"""How a node trains the module of a federation: the body is frozen, and the module is what moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn

from coldfuse.adapters.loading import inject_module, is_wrapping, load_module, module_tensors
from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.ways.way import Base, Parameters, Preparation, Way, difference


class ModuleWay(Way):
    """The module of a release is trained, in a body that stays as it is."""

    name: ClassVar = "module"
    trains: ClassVar = "the module that the federation shares"
    sends: ClassVar = "its tensors, as they differ from the release's"
    source: ClassVar = "the federation's own"

    folder: Path
    """The release's folder."""

    @property
    def kind(self) -> str:
        """Name of what is trained, for manifests."""
        module = open_checkpoint(self.folder).module
        return self.name if module is None else module.trained

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze the body, and put the release's module into it; a task's private head goes on training."""
        del preparation
        for parameter in shared.values():
            parameter.requires_grad_(False)
        checkpoint = open_checkpoint(self.folder)
        if checkpoint.module is None:
            raise UserInputError(f"{self.folder}: a whole model, and no module")
        if not is_wrapping(checkpoint.module):
            private = [parameter for parameter in model.parameters() if parameter.requires_grad]
            inject_module(model, checkpoint)
            for parameter in private:
                parameter.requires_grad_(True)
            return model
        if not hasattr(model, "lm_head") and not hasattr(model, "get_output_embeddings"):
            raise UserInputError(
                f"{checkpoint.module.share} works around a whole model, and the task puts a head on a body; train a "
                "language model (--task text-generation), or in a script of your own"
            )
        made: nn.Module = load_module(model, self.folder)
        return made

    def changes(self, model: nn.Module, base: Base) -> dict[str, Change]:
        """Return what became of the release's tensors, by their names."""
        schema = open_checkpoint(self.folder).schema
        changes: Mapping[str, Change] = {
            name: difference(name, tensor, base) for name, tensor in module_tensors(model, schema).items()
        }
        return dict(changes)


__all__ = ["ModuleWay"]
