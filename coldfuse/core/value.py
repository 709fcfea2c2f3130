"""The base class of every value that is stored or sent as JSON."""

from __future__ import annotations

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
