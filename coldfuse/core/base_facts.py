"""What is known of the model that a federation began with, from where it came and from its own card."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Value

_HUB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"

HubId = Annotated[str, Field(pattern=_HUB_ID)]
"""The Hub's id of a model."""

Term = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$")]
"""A license or a task, by the Hub's name."""

MOST_CARD_CHARS = 1 << 16
"""Length of a card up to which something is looked for."""


class BaseFacts(Value):
    """What a base's own card and the Hub say of it, where that is known."""

    hub_id: HubId | None = None
    """Id of the model on the Hub that it was downloaded from; None for a folder."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")] | None = None
    """Commit there."""
    license: Term | None = None
    """License that its card names."""
    pipeline_tag: Term | None = None
    """Task that its card names."""


def is_hub_id(text: str) -> bool:
    """Tell whether a text can be the Hub's id of a model.

    >>> is_hub_id("sentence-transformers/all-MiniLM-L6-v2"), is_hub_id("a/b/c"), is_hub_id("x\\n")
    (True, False, False)
    """
    return re.fullmatch(_HUB_ID, text) is not None and "\n" not in text


def card_terms(card: str) -> dict[str, str]:
    r"""Return license and task from a card's front matter, where each is one plain word; nothing else is read.

    >>> card_terms("---\nlicense: apache-2.0\npipeline_tag: 'fill-mask'\ntags:\n- x\n---\nlicense: mit\n")
    {'license': 'apache-2.0', 'pipeline_tag': 'fill-mask'}
    >>> card_terms("license: mit"), card_terms("---\nlicense: [a, b]\n---")
    ({}, {})
    """
    found = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", card[:MOST_CARD_CHARS], re.DOTALL)
    terms: dict[str, str] = {}
    if found is None:
        return terms
    for name in ("license", "pipeline_tag"):
        value = r"(['\"]?)([A-Za-z0-9][A-Za-z0-9.+-]{0,63})\1"
        line = re.search(rf"^{name}:[ \t]*{value}[ \t]*\r?$", found[1], re.MULTILINE)
        if line:
            terms[name] = line[2]
    return terms
