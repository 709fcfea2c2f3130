"""What a user may say of training by the names of transformers' `TrainingArguments`, in a file of YAML or JSON.

Names are taken from a list: a newer transformers may bring one that sends something away or writes somewhere. What the
node decides itself, by its options or because its promises hang on it, is refused with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from coldfuse.durable import explained
from coldfuse.errors import UserInputError

_MAX_BYTES = 1 << 20

_TAKEN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        (
            "max_steps", "gradient_accumulation_steps", "per_device_train_batch_size", "torch_empty_cache_steps",
            "dataloader_num_workers", "dataloader_prefetch_factor",
        ),
        (int,),
    ),
    **dict.fromkeys(
        (
            "learning_rate", "num_train_epochs", "warmup_steps", "warmup_ratio", "weight_decay", "adam_beta1",
            "adam_beta2", "adam_epsilon", "max_grad_norm", "neftune_noise_alpha", "logging_steps",
        ),
        (float, int),
    ),
    **dict.fromkeys(
        (
            "bf16", "fp16", "tf32", "gradient_checkpointing", "activation_checkpointing", "torch_compile",
            "use_liger_kernel",
            "logging_first_step", "dataloader_persistent_workers", "dataloader_pin_memory",
        ),
        (bool,),
    ),
    **dict.fromkeys(
        (
            "lr_scheduler_type", "optim", "optim_args", "torch_compile_backend", "torch_compile_mode",
            "logging_strategy", "logging_dir", "run_name", "project",
        ),
        (str,),
    ),
    **dict.fromkeys(
        (
            "lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs",
            "liger_kernel_config",
        ),
        (dict,),
    ),
    "report_to": (str, list),
}  # fmt: skip

UNDECISIVE = (
    "report_to", "run_name", "project", "logging_dir", "logging_strategy", "logging_steps", "logging_first_step",
    "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_persistent_workers", "dataloader_pin_memory",
)  # fmt: skip
"""Arguments that decide nothing of what is trained."""

_REFUSED = {
    ("push_to_hub", "hub_", "trackio_"): "a node sends nothing away but its contribution",
    ("seed", "data_seed", "full_determinism"): "--seed decides it, and every run is reproducible",
    ("use_cpu", "no_cuda", "use_mps_device"): "--device decides it",
    ("output_dir", "overwrite_output_dir", "save_", "enable_jit_checkpoint"): "a node saves in its own folder, sealed",
    ("resume_from_checkpoint", "ignore_data_skip", "restore_callback"): "a node resumes by itself",
    ("eval_", "do_", "per_device_eval", "batch_eval", "load_best", "metric_for_best", "greater_is", "prediction_loss"):
        "a node scores every epoch and keeps the best by itself",
    ("fsdp", "deepspeed", "ddp_", "local_rank", "parallelism_config", "accelerator_config"):
        "a node is one process; for many take coldfuse.attach in a script of your own",
    ("group_by_length", "length_column", "train_sampling_strategy", "dataloader_drop_last", "auto_find_batch"):
        "a node puts texts of like length side by side, drops none, and splits batches by --tokens-at-once",
    ("remove_unused_columns", "label_names", "include_"): "the task says what its model takes",
    ("label_smoothing_factor",): "the task says what its loss is",
    ("disable_tqdm", "log_level", "debug"): "a node reports by itself; see --json and --debug",
}  # fmt: skip


def read_train_args(path: Path) -> dict[str, object]:
    """Read a file of training arguments, YAML or JSON. Raises `UserInputError` for what cannot be taken, by name."""
    with explained(path, "read"):
        raw = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    try:
        given = yaml.safe_load(raw.decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserInputError(f"{path}: expected YAML or JSON; {reason}") from error
    if not isinstance(given, dict) or not given:
        raise UserInputError(f"{path}: expected names of TrainingArguments with values, such as `optim: adafactor`")
    return check_train_args(given, where=str(path))


def check_train_args(given: Mapping[str, object], *, where: str = "train_args") -> dict[str, object]:
    """Return the arguments with values of the kinds that they have; see `read_train_args`."""
    checked = {str(name): _checked(str(name), value, where) for name, value in given.items()}
    for name, value in checked.items():
        try:
            json.dumps(value, allow_nan=False, sort_keys=True)  # by which a run is known
        except (TypeError, ValueError, RecursionError):
            raise UserInputError(
                f"{where}: {name} is nothing that JSON holds, expected finite numbers, true, false, and words"
            ) from None
    return checked


def _checked(name: str, value: object, where: str) -> object:
    for starts, reason in _REFUSED.items():
        if name.startswith(starts):
            raise UserInputError(f"{where}: {name} is not taken: {reason}")
    if name not in _TAKEN:
        raise UserInputError(f"{where}: {name} is not taken; taken are {', '.join(sorted(_TAKEN))}")
    kinds = _TAKEN[name]
    if float in kinds and isinstance(value, str):  # YAML reads 5e-5 as a word
        try:
            value = float(value)
        except ValueError:
            pass
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UserInputError(f"{where}: {name} is {value!r:.60}, expected {_WORDS[kinds[0]]}")
    if name in _ABOVE_0 and not (isinstance(value, int | float) and value > 0):
        raise UserInputError(f"{where}: {name} is {value!r:.60}, expected more than 0; leave it out for the usual")
    return value


_ABOVE_0 = {
    "gradient_accumulation_steps", "per_device_train_batch_size", "max_steps", "num_train_epochs", "learning_rate",
    "logging_steps",
}  # fmt: skip

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", dict: "a mapping of names"}
