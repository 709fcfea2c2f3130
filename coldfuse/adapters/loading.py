"""A release's module in a body, and its tensors out of a model that was trained.

    body = AutoModelForCausalLM.from_pretrained("body/")
    model = load_module(body, Path("release/"))            # a PeftModel, to be trained
    …
    tensors = module_tensors(model, open_checkpoint("release/").schema)

PEFT's own loading does the same for a body of the very class that the federation was created with. Here a body inside a
task's model will do, too: names may differ by a prefix. Of a release's settings only those reach PEFT that say how the
module is made; some others name files to be unpickled.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn

from coldfuse.adapters.module_names import match_module
from coldfuse.adapters.patterns import check_patterns
from coldfuse.core.schema import Schema
from coldfuse.core.shared_module import ADAPTER_CONFIG, TENSORS, SharedModule
from coldfuse.errors import CodecError, UserInputError
from coldfuse.naming.building import failures
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.tensor_reader import TensorReader

_SETTINGS = frozenset({
    "adapter_layers", "adapter_len", "alpha", "alpha_pattern", "exclude_modules", "fan_in_fan_out",
    "feedforward_modules", "ifft2_norm", "init_weights", "layers_to_transform", "lora_alpha", "lora_dropout",
    "n_frequency", "num_attention_heads", "num_layers", "num_transformer_submodules", "num_virtual_tokens", "r",
    "random_loc_seed", "rank_pattern", "scaling", "target_modules", "task_type", "token_dim", "use_dora", "use_rslora",
})  # fmt: skip
"""Settings that reach PEFT."""

_SIZES = frozenset({"adapter_layers", "adapter_len", "num_virtual_tokens", "r", "token_dim"})
"""Those that say how much memory is taken; a file with such a module has a tensor of that size."""

_WRAPPING = frozenset({"ADAPTION_PROMPT", "PREFIX_TUNING", "PROMPT_TUNING"})
"""Types that work around a model, and cannot be put into a part of one."""


def load_module(model: nn.Module, folder: Path) -> Any:  # a PeftModel; PEFT is untyped
    """Put the module of a release into a model with its body, to be trained; the body is frozen.

    Args:
        model: The body, or a task's model around it; it is changed in place.
        folder: The release's folder, as a fetch wrote it.

    Returns:
        PEFT's model; the very model where parts of the body are shared.

    Raises:
        UserInputError: The folder is no module's, or PEFT cannot put it into this model.
        SchemaMismatchError: The model has another body.
    """
    checkpoint = open_checkpoint(folder)
    module = _module_of(checkpoint)
    if module.kind == TENSORS:
        put_tensors(model, checkpoint)
        return model
    config = read_config(checkpoint)
    if not is_wrapping(module):
        config.task_type = None  # that of the task's model is none of the module's
    with _explained(folder):
        made: Any = peft.get_peft_model(model, config)
    put_tensors(made, checkpoint)
    return made


def inject_module(body: nn.Module, checkpoint: Checkpoint) -> None:
    """Put the module of a release into a body that keeps its class and its names; the body is frozen.

    Raises:
        UserInputError: It works around a whole model.
    """
    module = _module_of(checkpoint)
    for parameter in body.parameters():
        parameter.requires_grad_(False)
    if module.kind != TENSORS:
        with _explained(checkpoint.folder):
            peft.inject_adapter_in_model(read_config(checkpoint), body)
    put_tensors(body, checkpoint)


def is_wrapping(module: SharedModule) -> bool:
    """Tell whether a module works around a whole model."""
    return module.kind in _WRAPPING


def module_tensors(model: nn.Module, schema: Schema, *, what: str = "") -> dict[str, Tensor]:
    """Return a trained model's tensors of a module, by the names that its releases give them.

    Args:
        model: The model that the module was put into.
        schema: The tensors of a release.
        what: The model's name, for errors.

    Raises:
        SchemaMismatchError: It lacks one of them, or has it in another shape, such as of another rank.
    """
    own = _own_tensors(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    return {name: own[theirs] for name, theirs in match_module(shapes, schema, what=what or _called(model)).items()}


def put_tensors(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Set a release's tensors into a model that has the module, and have them trained where they are the body's own."""
    own = _own_tensors(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    names = match_module(shapes, checkpoint.schema, what=_called(model))
    with TensorReader(checkpoint.files.values()) as reader:
        values = {
            theirs: torch.from_numpy(reader.floats(name)).reshape(shapes[theirs]).to(own[theirs].dtype)
            for name, theirs in names.items()
        }
    if hasattr(model, "peft_config"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft.set_peft_model_state_dict(model, values)
        return
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in own.items():
            if name in values:
                tensor.copy_(values[name])
                if name in parameters:
                    parameters[name].requires_grad_(True)


def read_config(checkpoint: Checkpoint) -> Any:
    """Return PEFT's configuration of a release's module, to be trained.

    Raises:
        UserInputError: A setting would take more than the module's tensors do, or PEFT refuses it.
        CodecError: The file is malformed.
    """
    what, module = f"{checkpoint.folder}/{ADAPTER_CONFIG}", _module_of(checkpoint)
    try:
        document = json.loads(checkpoint.read(ADAPTER_CONFIG) or b"")
        given = {name: value for name, value in document.items() if name in _SETTINGS and value is not None}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CodecError(f"{what}: not an adapter's configuration: {str(error)[:200]}") from error
    check_patterns(given, what=what)
    most = max((size for spec in checkpoint.schema.values() for size in spec.shape), default=0)
    for name in _SIZES & given.keys():
        if not (isinstance(given[name], int) and 0 < given[name] <= most):
            raise UserInputError(f"{what}: {name} is {given[name]!r:.50}, and no tensor of the module is so large")
    with _explained(what):
        return peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(module.kind)](**given, inference_mode=False)


def _module_of(checkpoint: Checkpoint) -> SharedModule:
    if checkpoint.module is None:
        raise UserInputError(f"{checkpoint.folder}: a whole model, and no module on a frozen body")
    return checkpoint.module


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's adapter, or all of its own if it has none."""
    if not hasattr(model, "peft_config"):
        return {name: tensor.detach() for name, tensor in model.state_dict().items()}
    found: Mapping[str, Tensor] = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return dict(found)


def _called(model: nn.Module) -> str:
    return type(model).__name__


@contextmanager
def _explained(what: object) -> Iterator[None]:
    """Say in one line what PEFT refuses, and leave out what it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except failures() as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise UserInputError(f"{what}: PEFT cannot make its module: {reason}") from error
