"""A model class of transformers, built from a configuration that anybody may have written.

It lies on torch's meta device, which takes no memory. Nothing is downloaded, no code but transformers' own is run, and
what a configuration asks for is counted while it is built: a few words can ask for billions of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

_MAX_PARTS = 200_000
"""Maximum number of modules and parameters of a model that is built; those with most, mixtures, have some 100,000."""

_MAX_COUNT = 100_000
"""Maximum number of layers, experts or labels that a configuration may speak of."""

_COUNTED = ("layer", "expert", "block", "depth", "stage", "group", "label", "codebook", "quantizer")
"""What is made as often as a configuration says, in names of its settings."""

_LABELS = ("id2label", "label2id")
"""Settings that hold all labels, and no number of them."""

_DROPPED = ("quantization_config", "torch_dtype", "dtype")
"""Settings that change no name of the plain model: a quantiser replaces layers by its own."""

_KERNELS = ("attn_implementation", "experts_implementation")
"""Settings whose values may be code on the hub; part of their names, which vary."""


LIBRARY_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What transformers, PEFT and torch raise for a configuration, a dtype, a shape or a number that does not fit."""


class TooLargeError(ValueError):
    """A configuration asks for more than any model has."""


def failures() -> tuple[type[Exception], ...]:
    """Return what a class of transformers raises that cannot be built from a configuration."""
    from huggingface_hub import errors

    wrong_type: type[Exception] = getattr(errors, "StrictDataclassError", ValueError)  # older versions check no types
    return (*LIBRARY_FAILURES, MemoryError, NameError, OSError, wrong_type)


def build(kind: str, config: Mapping[str, Any]) -> Any:  # transformers is untyped
    """Build the class that a configuration names, or the body of its model type, without memory.

    Args:
        kind: The model type, which transformers knows.
        config: The content of `config.json`.

    Raises:
        Exception: It cannot be built; one of `failures`.
    """
    import torch
    import transformers

    if reason := too_many_layers(config):
        raise TooLargeError(reason)
    with ExitStack() as stack:
        for guard in (quiet(), offline(), _counted(), torch.device("meta")):
            stack.enter_context(guard)
        parsed = transformers.CONFIG_MAPPING[kind].from_dict(_plain(config))
        return _class_of(config, parsed)(parsed).eval()


def too_many_layers(config: object, limit: int = _MAX_COUNT) -> str:
    """Return why a configuration asks for more than is built, or "": a class makes what it is told to.

    Args:
        config: The content of a model's `config.json`.
        limit: Number of layers, experts or labels that are made.
    """
    most = _largest_count(config)
    return f"it speaks of {most:,} layers, experts or labels, more than {limit:,}" if most > limit else ""


def _largest_count(config: object, key: str = "") -> int:
    """Return the largest number of things that a configuration asks for: each is made, even if without memory."""
    match config:
        case dict():
            return max((_largest_count(of, str(name)) for name, of in config.items() if name not in _LABELS), default=0)
        case list():
            return max((_largest_count(value, key) for value in config), default=0)
        case int() if any(word in key for word in _COUNTED) and not key.endswith("_size"):
            return int(config)
    return 0


def _plain(config: Any) -> Any:
    """Return the settings, at every level, without those that bring in what is not the plain model."""
    match config:
        case dict():
            return {
                key: _plain(value) for key, value in config.items()
                if key not in _DROPPED and not any(word in key for word in _KERNELS)
            }  # fmt: skip
        case list():
            return [_plain(value) for value in config]
    return config


def _class_of(config: Mapping[str, Any], parsed: Any) -> Any:
    """Return the class that the configuration names if transformers has it, else the body of its model type."""
    import transformers

    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    return transformers.MODEL_MAPPING[type(parsed)]


@contextmanager
def _counted() -> Iterator[None]:
    """Raise `TooLargeError` as soon as this thread has made more modules and parameters than any model has."""
    from torch.nn.modules import module

    thread, made = get_ident(), 0

    def count(*_: object) -> None:
        nonlocal made
        made += get_ident() == thread
        if made > _MAX_PARTS:
            raise TooLargeError(f"it asks for more than {_MAX_PARTS:,} modules and parameters")

    hooks = [
        module.register_module_module_registration_hook(count),
        module.register_module_parameter_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def offline() -> Iterator[None]:
    """Keep transformers off the hub: settings may name models, backbones and kernels there."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and reports (a headless body "misses" the head's weights) off the user's terminal."""
    from transformers.utils import logging as imported

    logging: Any = imported  # transformers is untyped
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
