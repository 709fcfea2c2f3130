"""How somebody gives an edit: `NAME=FILE` to train on, or the `NAME` alone of what was edited elsewhere.

The name is the user's label, and the gate asks the suite of this name: it travels, and everybody may see it. The file
stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from coldfuse.core.contribution import is_edit_name
from coldfuse.errors import UserInputError


@dataclass(frozen=True, kw_only=True)
class GivenEdit:
    """An edit, as it was given."""

    name: str
    """Name of the edit."""
    file: str | None
    """What is trained on; None where a model is given that was edited elsewhere."""

    @classmethod
    def parse(cls, text: str, *, what: str) -> Self:
        """Read what was given.

        Args:
            text: `NAME=FILE` or `NAME`.
            what: What the error calls the option.

        Raises:
            UserInputError: It has no name that can be one, or no file after the sign.

        >>> GivenEdit.parse("capital=facts=old.jsonl", what="--edit")
        GivenEdit(name='capital', file='facts=old.jsonl')
        """
        name, equals, file = text.partition("=")
        if not is_edit_name(name) or (equals and not file):
            raise UserInputError(
                f"{what} {text[:80]!r}: expected NAME=FILE, with a name of at most 50 lower-case letters, digits, "
                "'.', '_' and '-'"
            )
        return cls(name=name, file=file if equals else None)


def explain_method(method: str) -> str | None:
    """Say that a federation's method may keep only a part of an edit; None where a mean takes it up whole.

    Args:
        method: The recipe, as the federation writes it; of a long one the beginning is said.

    >>> explain_method("mean(absent=zero)")
    >>> print(explain_method("mean then interpolate"))  # doctest: +NORMALIZE_WHITESPACE
    the federation fuses by 'mean then interpolate', which may keep only a part of an edit; by mean, alone in its
    round, it counts whole
    """
    if method.partition("(")[0].strip() == "mean" and " then " not in method:
        return None
    said = f"the federation fuses by {method[:200]!r}, which may keep only a part of an edit"
    return f"{said}; by mean, alone in its round, it counts whole"
