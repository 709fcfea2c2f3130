"""Which of a model's tensors travel, said by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from coldfuse.errors import UserInputError

Share = str | Sequence[str] | None
"""Patterns of the names of what is shared, such as `encoder.*`; None: all that the base has."""


def only(share: Share, names: Iterable[tuple[str, str]]) -> set[str]:
    """Return which of the model's tensors patterns name, by their own name or by the base's.

    >>> sorted(only("encoder.*", [("bert.encoder.w", "encoder.w"), ("bert.pooler.w", "pooler.w")]))
    ['bert.encoder.w']
    """
    pairs = list(names)
    if share is None:
        return {own for own, _ in pairs}
    patterns = [share] if isinstance(share, str) else list(share)
    if not patterns:
        raise UserInputError(
            "share=[]: no pattern names what is shared; leave share out to share all that the base has"
        )
    found: set[str] = set()
    for pattern in patterns:
        named = {own for own, to in pairs if fnmatchcase(own, pattern) or fnmatchcase(to, pattern)}
        if not named:
            some = ", ".join(sorted(to for _, to in pairs)[:3])
            raise UserInputError(f"share={pattern!r}: no tensor that the base has is called so; it has {some}, …")
        found |= named
    return found
