"""PEFT's `adapter_config.json`: the few settings that decide what an adapter's tensors mean, and which are refused.

PEFT's defaults and matching rules are repeated here exactly, because they are part of the format: a rank or an alpha in
`rank_pattern` or `alpha_pattern` counts for modules whose name ends in the pattern, the first that matches.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

from pydantic import Field

from coldfuse.adapters.patterns import check_patterns
from coldfuse.adapters.types import EXPANDED, check_type
from coldfuse.core.serialization import canonical_json, decode
from coldfuse.core.value import Value
from coldfuse.errors import UserInputError

CONFIG = "adapter_config.json"

MERGE = "merge it into its model with PEFT's merge_and_unload(), save that, and give the model's folder instead"
"""The way out for adapters that PEFT can merge, though they cannot be read here."""

_CONVERT = (
    "so it fits only a base that was altered with it; save it with PEFT's "
    "save_pretrained(…, path_initial_model_for_weight_conversion=…), or merge it and give the model's folder"
)
_NEVER = "so no weights can hold what it does; train it without"

_REFUSED = {
    "alora_invocation_tokens": f"it acts on some of the tokens only, {_NEVER}",
    "arrow_config": f"it chooses among adapters by the input, {_NEVER}",
    "kasa_config": f"it is no plain LoRA; {MERGE}",
    "layer_replication": "its model repeats layers of the base, so it has more than the base; train it without",
    "monteclora_config": f"it is no plain LoRA; {MERGE}",
    "use_bdlora": f"its factors are blocks of a diagonal; {MERGE}",
    "use_qalora": f"it was made for a quantised base whose inputs it pools, {_NEVER}",
    "velora_config": f"it is no plain LoRA; {MERGE}",
}
"""Settings of LoRA that give its tensors another meaning, or that no merged model can express, and what follows."""

_ALTERED_BASES = ("corda", "loftq", "lora_ga", "olora", "pissa")
"""Values of `init_lora_weights`, or how they begin, that alter the base before training."""

_PLAIN_STARTS = (True, False, "eva", "gaussian", "mica", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it was."""

_OF_PLACES = frozenset({"base_model_name_or_path", "inference_mode", "peft_version", "revision"})
"""Settings that say where something lies, and nothing of what the tensors mean."""


class AdapterConfig(Value):
    """The settings that decide what an adapter's tensors mean."""

    peft_type: str
    base_model_name_or_path: str = ""
    r: int = Field(default=8, ge=1)
    """Rank of the factors, for modules that no `rank_pattern` names."""
    lora_alpha: float = 8
    """Numerator of LoRA's scale, for modules that no `alpha_pattern` names."""
    alpha: float = 8
    """Numerator of the scale of LoHa and LoKr, likewise."""
    rank_pattern: Mapping[str, int] = Field(default_factory=dict)
    """Ranks by regular expressions of module names."""
    alpha_pattern: Mapping[str, float] = Field(default_factory=dict)
    """Numerators of the scale by regular expressions of module names."""
    use_rslora: bool = False
    """True to divide by √r instead of r (arXiv 2312.03732)."""
    use_dora: bool = False
    """True if each module has DoRA's magnitudes beside its factors."""
    fan_in_fan_out: bool = False
    """True if linear layers store their weight as inputs × outputs."""
    feedforward_modules: Sequence[str] | str = ()
    """Names, or a regular expression, of the modules whose input (IA)³ scales; it scales the output of the others."""
    target_parameters: Sequence[str] = ()
    """Ends of the names of parameters that LoRA changes as they are, such as the experts of a layer in one tensor."""
    trainable_token_indices: Sequence[int] | Mapping[str, Sequence[int]] = ()
    """Rows of the embedding that were trained whole beside LoRA, or of several modules by the ends of their names."""
    token_indices: Sequence[int] = ()
    """Rows that an adapter of trained tokens changes."""
    modules_to_save: Sequence[str] | str = ()
    """Ends of the names of modules that were trained whole."""
    json_text: str = ""
    """All settings, of an adapter that PEFT computes: any of them may count."""

    def rank(self, module: str) -> int:
        """Return the rank of a module's factors."""
        return self.rank_pattern.get(_find_pattern(self.rank_pattern, module), self.r)

    def scale(self, module: str) -> float:
        """Return s = alpha/r of a module; rank-stabilised LoRA (arXiv 2312.03732) has alpha/√r."""
        default = self.lora_alpha if self.peft_type == "LORA" else self.alpha
        alpha = self.alpha_pattern.get(_find_pattern(self.alpha_pattern, module), default)
        return alpha / (math.sqrt(self.rank(module)) if self.use_rslora else self.rank(module))

    def token_rows(self, module: str) -> Sequence[int]:
        """Return the rows of a module's weight that were trained whole beside LoRA."""
        if not isinstance(self.trainable_token_indices, Mapping):
            return self.trainable_token_indices
        named = self.trainable_token_indices.items()
        return next((rows for name, rows in named if module == name or module.endswith(f".{name}")), ())

    def is_feedforward(self, module: str) -> bool:
        """Tell whether (IA)³ scales the module's input."""
        if isinstance(self.feedforward_modules, str):
            return re.fullmatch(self.feedforward_modules, module) is not None
        return module.endswith(tuple(self.feedforward_modules))


def parse_adapter_config(data: bytes, *, what: str) -> AdapterConfig:
    """Parse an adapter's configuration.

    Args:
        data: The content of `adapter_config.json`.
        what: The file's name, for errors.

    Raises:
        UserInputError: It is no JSON object, or its settings are not supported.
        CodecError: A setting has another type than PEFT gives it.
    """
    try:
        document = json.loads(data)
        given = {name: value for name, value in document.items() if value is not None}  # null: PEFT's default
        plain = canonical_json(given)  # refuses NaN and infinity
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserInputError(f"{what}: not an adapter's configuration: {str(error)[:200]}") from error
    check_type(given.get("peft_type"), what=what)  # first: others give the same names other meanings
    check_patterns(given, what=what)
    if str(given.get("peft_type")) in EXPANDED:
        counting = {name: value for name, value in given.items() if name not in _OF_PLACES}
        text = canonical_json(counting).decode()
        named = given.get("modules_to_save")
        whole = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
        return AdapterConfig(peft_type=str(given["peft_type"]), json_text=text, modules_to_save=whole)
    config = decode(AdapterConfig, plain, what=what)
    if config.peft_type == "LORA":
        _check_variant(given, what)
    _check_ranks(config, what)
    return config


def _check_variant(given: Mapping[str, object], what: str) -> None:
    """Refuse a LoRA that is no plain one, with what that means."""
    for name, why in _REFUSED.items():
        if given.get(name):
            raise UserInputError(f"{what}: {name} is not supported: {why}")
    start = given.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        why = f"is not known; {MERGE}"
        if str(start).lower().startswith(_ALTERED_BASES):
            why = f"moves a part of the base into the adapter, {_CONVERT}"
        raise UserInputError(f"{what}: init_lora_weights={start!r:.50} {why}")


def _check_ranks(config: AdapterConfig, what: str) -> None:
    if any(rank < 1 for rank in config.rank_pattern.values()):
        raise UserInputError(f"{what}: rank_pattern holds a rank below 1; save the adapter again with PEFT")


def _find_pattern(patterns: Mapping[str, object], module: str) -> str:
    """Return the first pattern that matches the end of the module's name, or the name itself."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)
