"""PEFT's types of adapter, by what becomes of each: read here, computed by PEFT, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.errors import UserInputError

NATIVE = frozenset({"IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "TRAINABLE_TOKENS"})
"""Types whose change is worked out here, row by row from the adapter's file; `coldfuse.adapters.kinds`."""

EXPANDED = frozenset({
    "ADALORA", "ADAMSS", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA",
    "HRA", "MISS", "OFT", "OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA", "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA",
    "UNILORA", "VBLORA", "VERA", "WAVEFT",
})  # fmt: skip
"""Types whose change PEFT computes, module by module; `coldfuse.adapters.expanding`."""

WITH_BIAS = frozenset({"ADAMSS", "BEFT", "GLORA", "ROAD"})
"""Among them, types that also change a layer's bias, or nothing else."""

COUNTING = frozenset({"TINYLORA"})
"""Among them, types in which the number of modules says what each of them shares with which."""

SIZED = frozenset({"PVERA", "RANDLORA", "VERA"})
"""Among them, types whose shared projections are as large as the largest module wants, where they are not saved."""

_PROMPT = "it puts tokens before the input and changes no weight"
_ROUTED = "what it adds depends on the input, so no weights can hold it"

NO_WEIGHTS: Mapping[str, str] = {
    "ADAPTION_PROMPT": "it adds layers that attend to learned tokens, and changes no weight",
    "CARTRIDGE": "it stores keys and values to attend to, and changes no weight",
    "CPT": _PROMPT,
    "LILY": _ROUTED,
    "MULTITASK_PROMPT_TUNING": _PROMPT,
    "POLY": _ROUTED,
    "PREFIX_TUNING": "it stores keys and values to attend to, and changes no weight",
    "PROMPT_TUNING": _PROMPT,
    "P_TUNING": _PROMPT,
    "SHADOW": "it runs a second model beside the base, and changes no weight of it",
    "XLORA": _ROUTED,
}
"""Types that no change of weights can express, and why."""


def check_type(peft_type: object, *, what: str) -> None:
    """Raise `UserInputError` if adapters of this type cannot be fused; what is no text is left to who parses it."""
    if not isinstance(peft_type, str) or peft_type in NATIVE | EXPANDED:
        return
    if peft_type in NO_WEIGHTS:
        raise UserInputError(
            f"{what}: an adapter of type {peft_type} cannot be fused: {NO_WEIGHTS[peft_type]}; train one that changes "
            "weights, such as LoRA"
        )
    known = ", ".join(sorted(NATIVE | EXPANDED))
    raise UserInputError(f"{what}: adapters of type {peft_type[:50]!r} are not known; known are {known}")
