"""Under which names the files of a model hold what a loaded body calls its own."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from coldfuse.errors import SchemaMismatchError

_LEGACY_NAMES = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


def stored_parameters(body: nn.Module, schema_names: Collection[str]) -> dict[str, str]:
    """Return the name in the files of each parameter that they hold, by the body's own name for it.

    Files store a parameter under its own name or behind the model's prefix (`bert.`), old ones with `gamma` and `beta`
    for layer norms. Tied parameters are one.
    """
    stored, prefix = set(schema_names), str(getattr(body, "base_model_prefix", ""))
    found = {}
    for name, parameter in body.named_parameters():
        known = next((known for known in _candidates(name, prefix) if known in stored), None)
        if known is not None and parameter.is_floating_point():
            found[name] = known
    if not found:
        raise SchemaMismatchError(
            f"{type(body).__name__}: none of its parameters has a name of the base, such as "
            f"{min(stored, default='-')}; expected the base's own model folder"
        )
    return found


def _candidates(name: str, prefix: str) -> list[str]:
    """List the names under which files may hold the body's parameter `name`, the likeliest first."""
    names = [name]
    names += [name.removesuffix(new) + old for new, old in _LEGACY_NAMES if name.endswith(new)]
    return names + [f"{prefix}.{stored}" for stored in names if prefix]
