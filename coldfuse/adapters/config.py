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

from coldfuse.core.serialization import canonical_json, decode
from coldfuse.core.value import Value
from coldfuse.errors import UserInputError

CONFIG = "adapter_config.json"
KNOWN_TYPES = ("LORA", "LOHA", "LOKR", "IA3")

MERGE = "merge it into its model with PEFT's merge_and_unload(), save that, and give the model's folder instead"
"""The way out for every adapter that cannot be read."""

_REFUSED = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "monteclora_config",
    "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora", "velora_config",
)  # fmt: skip
"""Settings of LoRA that give its tensors another meaning, or that no merged model can express."""

_PLAIN_STARTS = (True, False, "eva", "gaussian", "mica", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it was; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA alter it."""


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

    def rank(self, module: str) -> int:
        """Return the rank of a module's factors."""
        return self.rank_pattern.get(_find_pattern(self.rank_pattern, module), self.r)

    def scale(self, module: str) -> float:
        """Return s = alpha/r of a module; rank-stabilised LoRA (arXiv 2312.03732) has alpha/√r."""
        default = self.lora_alpha if self.peft_type == "LORA" else self.alpha
        alpha = self.alpha_pattern.get(_find_pattern(self.alpha_pattern, module), default)
        return alpha / (math.sqrt(self.rank(module)) if self.use_rslora else self.rank(module))

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
    _check_type(given.get("peft_type"), what)  # first: others give the same names other meanings
    config = decode(AdapterConfig, plain, what=what)
    refused = [name for name in _REFUSED if given.get(name)]
    if config.peft_type == "LORA" and given.get("init_lora_weights", True) not in _PLAIN_STARTS:
        refused.append(f"init_lora_weights={given['init_lora_weights']!r:.50}")
    if refused:
        raise UserInputError(f"{what}: {refused[0]} is not supported; {MERGE}")
    _check_patterns(config, what)
    return config


def _check_type(peft_type: object, what: str) -> None:
    if isinstance(peft_type, str) and peft_type not in KNOWN_TYPES:
        raise UserInputError(
            f"{what}: adapters of type {peft_type[:50]} cannot be fused, known are {', '.join(KNOWN_TYPES)}; {MERGE}"
        )


def _check_patterns(config: AdapterConfig, what: str) -> None:
    whole = [config.feedforward_modules] if isinstance(config.feedforward_modules, str) else []
    for pattern in (*config.rank_pattern, *config.alpha_pattern, *whole):
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserInputError(f"{what}: {pattern[:200]!r} is no regular expression: {error}") from error
    if any(rank < 1 for rank in config.rank_pattern.values()):
        raise UserInputError(f"{what}: rank_pattern holds a rank below 1; save the adapter again with PEFT")


def _find_pattern(patterns: Mapping[str, object], module: str) -> str:
    """Return the first pattern that matches the end of the module's name, or the name itself."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)
