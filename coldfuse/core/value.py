"""The base class of every value that is stored or sent as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hex."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A contributor's or federation's name: safe in a key, a URL and a file name."""

Sentence = Annotated[str, Field(max_length=2000)]
"""Text for people, bounded because it is stored and shown."""


class Value(BaseModel):
    """A frozen value; unknown fields of a newer minor version are ignored, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def without_unset(data: Mapping[str, object], *names: str) -> dict[str, object]:
    """Return fields without those of these that are None: what never had them is written as it always was.

    >>> without_unset({"a": None, "b": None, "c": 1}, "a", "c")
    {'b': None, 'c': 1}
    """
    return {name: value for name, value in data.items() if value is not None or name not in names}
