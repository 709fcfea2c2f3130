"""Ways that are PEFT's: `lora(rank=16)`, and every other type of adapter that is a change of weights.

PEFT makes the adapter from its own configuration, whose settings are the way's parameters by PEFT's names (`rank` and
`alpha` stand for whatever the type calls them). It is put into the model itself, so the model's class stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from coldfuse.adapters.types import EXPANDED, NATIVE
from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change
from coldfuse.training.moving import freeze_statistics
from coldfuse.training.schedule import derive_seed
from coldfuse.training.ways.way import Base, Parameters, Preparation, Tensors, Way

TYPES = tuple(sorted(NATIVE | EXPANDED))
"""PEFT's names of the types that are a change of weights."""


class Adapted(Way):
    """An adapter of PEFT's, merged at the node."""

    peft_type: ClassVar[str]
    """PEFT's name of the type."""
    trains: ClassVar = "an adapter of PEFT's"
    sends: ClassVar = "low-rank factors where they are exact and smaller, else dense or sparse tensors"
    source: ClassVar = "PEFT"

    settings: dict[str, Any] = Field(default_factory=dict)
    """PEFT's settings by its own names."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Mapping[str, object]) -> dict[str, object]:
        own = {key: value for key, value in given.items() if key in ("freeze_embeddings", "settings")}
        if len(own) == len(given):
            return own
        from coldfuse.training.ways.settings import read_setting

        read = [read_setting(cls.peft_type, key, text) for key, text in given.items() if key not in own]
        if len(read) > len(dict(read)):
            raise ValueError("one parameter is given by two names")
        return {**own, "settings": dict(read)}

    def line(self) -> str:
        """Return the way with every parameter that was given."""
        given = self.settings | ({"freeze_embeddings": True} if self.freeze_embeddings else {})
        written = ", ".join(f"{key}={_written(value)}" for key, value in sorted(given.items()))
        return f"{self.name}({written})" if written else self.name

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze what is shared, and have PEFT put the adapter into the model."""
        from coldfuse.training.ways.injecting import inject

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(preparation.seed, "adapter", preparation.round))
            inject(self.peft_type, self.settings, model=model, shared=shared, line=self.line())
        freeze_statistics(model)
        if self.freeze_embeddings:
            self._check_no_embedding(model)
        return model

    def changes(self, model: nn.Module, base: Base) -> Mapping[str, Change]:
        """Return what became of the base's tensors; a layer is merged in float32 when it is asked for."""
        from coldfuse.training.ways.merging import merged_changes

        return merged_changes(model, base)

    def finetuned(self, model: nn.Module, tensors: Tensors) -> Mapping[str, Tensor]:
        """Return the base's tensors as the adapter made them; those that it changed are copies, in float32."""
        from coldfuse.training.ways.merging import merged_tensors

        return merged_tensors(model, tensors)

    def _check_no_embedding(self, model: nn.Module) -> None:
        for path, module in model.named_modules():
            if hasattr(module, "get_base_layer") and isinstance(module.get_base_layer(), nn.Embedding):
                raise UserInputError(f"--train {self.name}: {path} is an embedding, and embeddings are to stay frozen")


def _written(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, int | str) for item in value):
        return f'"{",".join(map(str, value))}"'
    if isinstance(value, dict | list):
        return f"'{json.dumps(value, sort_keys=True)}'"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _way_of(type_name: str) -> type[Adapted]:
    class Made(Adapted):
        name: ClassVar[str] = type_name.lower().replace("_", "-")
        peft_type: ClassVar[str] = type_name

    return Made


ADAPTED: dict[str, type[Adapted]] = {way.name: way for way in map(_way_of, TYPES)}
"""PEFT's ways by their names."""
