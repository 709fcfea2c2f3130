"""The fusion methods, described."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.api.fused import MethodInfo, Methods, ParameterInfo
from coldfuse.engine.recipes import known_methods
from coldfuse.fusion.method import Combiner, MatrixCombiner, Method, Outer, Transform
from coldfuse.search.methods import SEARCHES, Search

_KINDS: Mapping[type[Method], str] = {
    Search: "searches on held-out data",
    Transform: "changes each delta",
    Combiner: "combines",
    Outer: "moves the base",
}
"""What the kinds of methods do; a search is a combiner, too, and so comes first."""


def list_methods() -> Methods:
    """Return all methods: coldfuse's own, those of packages that are installed beside it, and searches.

    Raises:
        UserInputError: An installed package's method cannot be loaded.
    """
    known: dict[str, type[Method]] = {**known_methods(), **SEARCHES}
    return Methods({name: _describe(name, kind) for name, kind in known.items()})


def _describe(name: str, kind: type[Method]) -> MethodInfo:
    return MethodInfo(
        name=name,
        summary=kind.summary,
        source=kind.source,
        kind=next(text for base, text in _KINDS.items() if issubclass(kind, base)),
        needs=_needs(kind),
        parameters={
            field: ParameterInfo(default=info.default, meaning=" ".join((info.description or "").split()))
            for field, info in kind.model_fields.items()
        },
    )


def _needs(kind: type[Method]) -> str:
    """Say in a few words what the engine does for a method."""
    if issubclass(kind, Search):
        return kind.needs
    passes = len(kind().measures())
    words = ["one pass" if not passes else f"{passes} measuring pass{'es' if passes > 1 else ''} first"]
    if issubclass(kind, MatrixCombiner):
        squares = f" and {kind.num_squares} of its columns squared" if kind.num_squares else ""
        words.append(f"in memory: about {kind.num_matrices} matrices of the size of the tensor{squares}")
    if kind.whole_rows:
        words.append("whole rows")
    if kind.statistic:
        words.append(f"{kind.statistic} statistics of every contribution")
    if slots := getattr(kind, "slots", ()):
        words.append(f"keeps {', '.join(slots)} between rounds")
    return "; ".join(words)
