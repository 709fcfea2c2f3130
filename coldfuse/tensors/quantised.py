"""Bases and models whose weights are quantised: found by their configuration or tensors, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from coldfuse.core.schema import Schema

_DEQUANTISE = "load it with transformers, call model.dequantize(), save_pretrained that and give it"
_ORIGINAL = "give the model that it was made from, which is unquantised"

_METHODS = {
    "aqlm": ("AQLM", _ORIGINAL),
    "awq": ("AWQ", _ORIGINAL),
    "bitsandbytes": ("bitsandbytes", f"{_DEQUANTISE}, or {_ORIGINAL}"),
    "compressed-tensors": ("compressed-tensors", f"{_ORIGINAL}, or load it with run_compressed=False and save that"),
    "eetq": ("EETQ", _ORIGINAL),
    "fbgemm_fp8": ("FBGEMM FP8", _ORIGINAL),
    "fp8": ("FP8", "load it with FineGrainedFP8Config(dequantize=True), save_pretrained that and give it"),
    "gptq": ("GPTQ", _ORIGINAL),
    "higgs": ("HIGGS", f"{_DEQUANTISE}, or {_ORIGINAL}"),
    "hqq": ("HQQ", _ORIGINAL),
    "mxfp4": ("MXFP4", "load it with Mxfp4Config(dequantize=True), save_pretrained that and give it"),
    "torchao": ("torchao", _ORIGINAL),
}
"""What people call each method of `quant_method`, and what they can do."""

SETTINGS = ("quantization_config", "compression_config")
"""Settings of config.json that say how a model is quantised; the second is compressed-tensors' older one."""

_ENDINGS = {
    "absmax": "bitsandbytes", "SCB": "bitsandbytes", "quant_map": "bitsandbytes", "weight_format": "bitsandbytes",
    "g_idx": "gptq", "qzeros": "awq", "qweight": "awq", "weight_scale_inv": "fp8", "weight_scale": "fp8",
    "weight_packed": "compressed-tensors", "blocks": "mxfp4",
}  # fmt: skip
"""How names of tensors end that belong to a method, where the configuration does not say it."""


def explain_quantised(schema: Schema, config: Mapping[str, object]) -> str | None:
    """Say by what a model's weights are quantised and what to do, as the middle of a sentence; None if they are not.

    >>> explain_quantised({}, {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    'by GPTQ with 4 bits: give the model that it was made from, which is unquantised'
    """
    settings = settings_of(config)
    method = str(settings.get("quant_method") or "") or _by_bits(settings) or _by_tensors(schema)
    if not method:
        return None
    known = "bitsandbytes" if method.startswith("bitsandbytes") else method.lower()
    called, todo = _METHODS.get(known, (method[:50], _ORIGINAL))
    return f"by {called}{_bits(settings)}: {todo}"


def settings_of(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return what a configuration says of quantisation; empty if nothing.

    >>> settings_of({"text_config": {"quantization_config": {"quant_method": "fp8"}}})
    {'quant_method': 'fp8'}
    """
    nested = config.get("text_config")
    for told in (config, nested if isinstance(nested, dict) else {}):
        for name in SETTINGS:
            if isinstance(found := told.get(name), dict) and found:
                return found
    return {}


def _by_bits(settings: Mapping[str, object]) -> str:
    return "bitsandbytes" if settings.get("load_in_4bit") or settings.get("load_in_8bit") else ""


def _bits(settings: Mapping[str, object]) -> str:
    for name, bits in (("load_in_4bit", 4), ("load_in_8bit", 8)):
        if settings.get(name):
            return f" with {bits} bits"
    return f" with {settings['bits']} bits" if isinstance(settings.get("bits"), int) else ""


def _by_tensors(schema: Schema) -> str:
    """Return the method that tensors' names tell of; more special names come first."""
    ends = {name.rpartition(".")[2] for name in schema} | _nested(schema)
    return next((method for end, method in _ENDINGS.items() if end in ends), "")


def _nested(names: Iterable[str]) -> set[str]:
    """Return the ends of names such as `down_proj_blocks`, which transformers gives to experts in MXFP4."""
    return {"blocks" for name in names if name.endswith("_blocks")}
