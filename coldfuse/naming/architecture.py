"""How transformers names a model's tensors in memory, and which names in files it loads into each.

A model class is built from its configuration on torch's meta device, which takes no memory, and asked for its tensors;
transformers says itself how it renames what it finds in files (its conversion mapping, from version 5 on). Nothing is
downloaded and no code of a model's own is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from coldfuse.errors import SchemaMismatchError
from coldfuse.naming.building import build, failures

_KEPT = 8
"""Number of architectures that are kept: a fusion's models mostly share one or two."""

_LEGACY_NAMES = {r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"}
"""What versions of transformers without a conversion mapping rename in code."""


@dataclass(frozen=True)
class Unknown:
    """An architecture that cannot be asked."""

    why: str
    """The reason, as the end of a sentence."""


class Architecture:
    """A model of transformers, and how it names its tensors."""

    def __init__(self, model: Any) -> None:  # transformers is untyped
        """Ask a model for its names; it may lie on the meta device."""
        self.model = model
        self.prefix = str(getattr(model, "base_model_prefix", "") or "")
        """Name of the body inside a model with a head; a body alone has none of it in its names."""
        self._renamings, self._converters = _transforms(model)
        self._in_memory: dict[str, str | None] = {}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor that is saved, by its name in memory."""
        return {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}

    @cached_property
    def tied_embedding(self) -> str | None:
        """Name in memory of the input embedding, if the head is the same tensor; None if there is no such head."""
        config = self.model.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        if not getattr(text, "tie_word_embeddings", False):
            return None
        try:
            embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        except NotImplementedError:  # a model of sounds or images has none
            return None
        if head is None:
            return None
        return next((f"{path}.weight" for path, module in self.model.named_modules() if module is embedding), None)

    def in_memory(self, stored: str) -> str | None:
        """Return the name of the tensor that a file's tensor is loaded into; None if transformers would ignore it.

        The order in which names are tried is the loader's own (`convert_and_load_state_dict_in_model`). Where several
        tensors of a file make one in memory, all have its name.
        """
        if stored not in self._in_memory:
            renamed, _ = self._converted(self._renamed(stored))
            self._in_memory[stored] = self._placed(renamed) or self._placed(stored)
        return self._in_memory[stored]

    def key(self, stored: str) -> str | None:
        """Return one name for all spellings of a file's tensor, without the body's prefix; None as `in_memory`.

        Where transformers makes one tensor of several (the experts of a mixture), each part keeps a key of its own.
        """
        memory = self.in_memory(stored)
        if memory is None:
            return None
        return self.without_prefix(self._renamed(stored) if self.is_part(stored) else memory)

    def is_part(self, stored: str) -> bool:
        """Tell whether a file's tensor is changed by more than its name as it is loaded."""
        renamed = self._renamed(stored)
        return self._converted(renamed)[1] and self._placed(renamed) is None

    def without_prefix(self, name: str) -> str:
        """Take the body's prefix off a name in memory."""
        return name.removeprefix(f"{self.prefix}.") if self.prefix else name

    def is_body(self, memory: str) -> bool:
        """Tell whether a tensor in memory belongs to the body, which is shared, and not to a task's head."""
        return not self._has_head or memory.startswith(f"{self.prefix}.")

    @cached_property
    def _has_head(self) -> bool:
        """True if the body lies inside, under its prefix."""
        return bool(self.prefix) and any(name.startswith(f"{self.prefix}.") for name in self.shapes)

    @cached_property
    def plain_names(self) -> frozenset[str]:
        """All names in memory, without the body's prefix."""
        return frozenset(map(self.without_prefix, self.shapes))

    @cached_property
    def body_roots(self) -> frozenset[str]:
        """Names of the body's parts, such as its stack of layers."""
        return frozenset(self.without_prefix(name).partition(".")[0] for name in self.shapes if self.is_body(name))

    def layer_of(self, stored: str) -> tuple[str, Any] | None:
        """Return the path and the module in memory whose weight a file's tensor is; None if it is no layer's weight."""
        memory = self.in_memory(stored)
        if memory is None or self.is_part(stored) or not memory.endswith(".weight"):
            return None
        path = memory.removesuffix(".weight")
        return path, self.model.get_submodule(path)

    def stored_names(self, stored: Iterable[str]) -> dict[str, str]:
        """Return the name in files of each tensor in memory that is one tensor there, too.

        Args:
            stored: Names of all tensors in a model's files.

        Raises:
            SchemaMismatchError: Two of them would be loaded into one place.
        """
        by_memory: dict[str, str] = {}
        for name in sorted(stored):
            memory = self.in_memory(name)
            if memory is None or self.is_part(name):
                continue
            if memory in by_memory:
                raise SchemaMismatchError(
                    f"the base holds {by_memory[memory]} and {name}, which transformers loads into one place"
                )
            by_memory[memory] = name
        return by_memory

    def stored_parts(self, stored: Iterable[str]) -> dict[str, Any]:
        """Return the model's tensors that files hold in several parts or another layout, cut up as they are in files.

        Transformers does it, as when it saves the model: what only changes its shape is no copy.

        Args:
            stored: Names of all tensors in the model's files.
        """
        by_key = {self.key(name): name for name in stored if self.is_part(name)}
        if not by_key:
            return {}
        from transformers.core_model_loading import revert_weight_conversion

        whole = {self.in_memory(name) for name in by_key.values()}
        tensors = {name: tensor for name, tensor in self.model.state_dict().items() if name in whole}
        cut = revert_weight_conversion(self.model, tensors)
        return {by_key[self.key(name)]: tensor for name, tensor in cut.items() if self.key(name) in by_key}

    def _renamed(self, stored: str) -> str:
        for renaming in self._renamings:
            stored = renaming.rename_source_key(stored)[0]
        return stored

    def _converted(self, renamed: str) -> tuple[str, bool]:
        for converter in self._converters:
            target, pattern = converter.rename_source_key(renamed)
            if pattern is not None:
                return target, True
        return renamed, False

    def _placed(self, name: str) -> str | None:
        """Find a name among those in memory, with the body's prefix taken off or put before it, or as it is."""
        if self.prefix:
            for other in (self.without_prefix(name), f"{self.prefix}.{name}"):
                if other != name and other in self.shapes:
                    return other
        return name if name in self.shapes else None


class _Renaming:
    """A renaming by a regular expression, with the method of those of transformers."""

    def __init__(self, pattern: str, replacement: str) -> None:
        self._pattern, self._replacement = re.compile(pattern), replacement

    def rename_source_key(self, name: str) -> tuple[str, str | None]:
        renamed, count = self._pattern.subn(self._replacement, name, count=1)
        return renamed, self._pattern.pattern if count else None


def _transforms(model: Any) -> tuple[list[Any], list[Any]]:
    """Return what transformers does to names, and what it does to names and values."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter
    except ImportError:  # transformers 4
        own = getattr(model, "_checkpoint_conversion_mapping", {})
        return [_Renaming(old, new) for old, new in [*own.items(), *_LEGACY_NAMES.items()]], []
    found = get_model_conversion_mapping(model)
    return (
        [item for item in found if not isinstance(item, WeightConverter)],
        [item for item in found if isinstance(item, WeightConverter)],
    )


def find_architecture(config: Mapping[str, object]) -> Architecture | Unknown:
    """Build the model class that a configuration names, without memory.

    Args:
        config: The content of a model's `config.json`; nothing of it is run.

    Returns:
        The architecture, or why there is none: transformers is not installed, or does not know it.
    """
    return _find(json.dumps(config, sort_keys=True, default=str))


@lru_cache(_KEPT)
def _find(config_json: str) -> Architecture | Unknown:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError:
        return Unknown("transformers is not installed, so the names could not be held against those it loads; "
                       "pip install 'coldfuse[contributor]'")  # fmt: skip
    config = json.loads(config_json)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        return Unknown(f"transformers knows no model type {kind!r:.100}")
    try:
        return Architecture(build(kind, config))
    except failures() as error:
        return Unknown(f"transformers cannot build it: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
