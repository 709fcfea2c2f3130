"""What the Trainer is told: the node's settings, and what the user says by the Trainer's own names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainingArguments

from coldfuse.errors import UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES
from coldfuse.training.compute import computes_bf16, pick_device
from coldfuse.training.failures import first_line
from coldfuse.training.settings import TrainingSettings


class NodeArguments(TrainingArguments):
    """TrainingArguments for one device that was named, or for all GPUs of the machine."""

    wanted: torch.device | None = None

    @cached_property
    def _setup_devices(self) -> torch.device:
        device: torch.device = super()._setup_devices
        if self.wanted is None or self.wanted.type != "cuda" or self.wanted.index is None:
            return device
        torch.cuda.set_device(self.wanted)
        self._n_gpu = 1
        return self.wanted


def make_arguments(settings: TrainingSettings, output_dir: Path) -> NodeArguments:
    """Say to the Trainer what the settings say, and what the user says by its own names.

    Args:
        settings: How the node trains.
        output_dir: Folder in which nothing is written but what the user asked to have reported.

    Raises:
        UserInputError: The Trainer does not take a value.
    """
    device = pick_device(settings.device)
    values: dict[str, Any] = {
        "output_dir": str(output_dir), "per_device_train_batch_size": settings.batch_size,
        "num_train_epochs": settings.num_epochs, "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay, "max_grad_norm": settings.max_gradient_norm,
        "optim": "adamw_torch_fused" if device.type in ("cpu", "cuda") else "adamw_torch",
        "bf16": computes_bf16(device) and not settings.train_args.get("fp16", False),
        "use_cpu": device.type == "cpu", "dataloader_pin_memory": device.type == "cuda",
        "report_to": "none", "save_strategy": "no", "eval_strategy": "no", "disable_tqdm": True,
        "remove_unused_columns": False, "seed": settings.seed % (1 << 32), "logging_nan_inf_filter": False,
    }  # fmt: skip
    try:
        on_device = type("NodeArguments", (NodeArguments,), {"wanted": device})  # asked for while it is made
        arguments: NodeArguments = on_device(**{**values, **_by_present_names(settings.train_args)})
        return arguments
    except (*LIBRARY_FAILURES, OSError) as error:
        raise UserInputError(f"training arguments: {first_line(error)}") from error


_NEW_NAMES = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "warmup_ratio": "warmup_steps",  # which takes a share as well
}
"""What newer versions of transformers call some arguments."""


def _by_present_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's arguments as the installed transformers names them."""
    known = {argument.name for argument in dataclasses.fields(TrainingArguments)}
    found: dict[str, Any] = {}
    for name, value in given.items():
        present = _NEW_NAMES[name] if _NEW_NAMES.get(name) in known - {"warmup_steps"} else name
        present = "warmup_steps" if present == "warmup_ratio" and present not in known else present
        if present not in known:
            raise UserInputError(f"training arguments: transformers {transformers.__version__} has no {name}")
        found[present] = value
    return found


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a run is."""

    step_examples: int
    """Examples of one optimiser step."""
    epoch_steps: int
    """Optimiser steps of an epoch."""
    num_steps: int
    """Steps of the whole run, if it does not end early."""

    @classmethod
    def of(cls, num_examples: int, arguments: TrainingArguments) -> Length:
        """Count as the Trainer does."""
        num_batches = math.ceil(num_examples / arguments.train_batch_size)
        epoch_steps = math.ceil(num_batches / arguments.gradient_accumulation_steps)
        whole = math.ceil(arguments.num_train_epochs * epoch_steps)
        return cls(
            step_examples=min(arguments.train_batch_size * arguments.gradient_accumulation_steps, num_examples),
            epoch_steps=epoch_steps, num_steps=arguments.max_steps if arguments.max_steps > 0 else whole,
        )  # fmt: skip
