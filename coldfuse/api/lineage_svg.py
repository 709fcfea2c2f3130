"""A lineage as a picture: releases from top to bottom, newest first, each with what went into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from coldfuse.api.lineage import NAMED, Step, contribution_words
from coldfuse.api.values import when
from coldfuse.core.words import plural, printable

_WIDTH, _LEFT, _RIGHT, _TOP = 960, 40, 470, 20
_LINE, _GAP, _BOX = 18, 16, 390
_MOST_CHARS = 120
"""Length at which words are cut."""

_SIGNED, _UNSIGNED, _REFUSED = "#2e7d32", "#757575", "#c62828"

_STYLE = "text{font:13px sans-serif;fill:#212121}.d{font:12px monospace;fill:#616161}"


def lineage_svg(steps: Sequence[Step], *, older: int = 0) -> str:
    """Return the picture as SVG, without script, link or anything from elsewhere.

    Args:
        steps: The releases, newest first.
        older: Number of releases before these, which are not drawn.
    """
    drawn, top = [], _TOP
    for index, step in enumerate(steps):
        height = _height(step)
        drawn += list(_draw(step, top, height, has_parent=index + 1 < len(steps) or older > 0))
        top += height + _GAP
    if older:
        drawn.append(_text(_LEFT, top + _LINE, f"{plural(older, 'release')} before"))
        top += 2 * _LINE
    size = f'width="{_WIDTH}" height="{top + _TOP}" viewBox="0 0 {_WIDTH} {top + _TOP}"'
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="lineage">\n<style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _height(step: Step) -> int:
    return max(4, len(list(_rows(step)))) * _LINE + 12


def _draw(step: Step, top: int, height: int, *, has_parent: bool) -> Iterator[str]:
    summary, signed = step.summary, step.signed
    colour = _REFUSED if signed.problem else _SIGNED if signed.keyid else _UNSIGNED
    yield (
        f'<rect x="{_LEFT}" y="{top}" width="{_BOX}" height="{height}" rx="6" fill="#fafafa" stroke="{colour}" '
        f'stroke-width="2"><title>{_safe(summary.name.model_digest)}</title></rect>'
    )
    if has_parent:
        x = _LEFT + 24
        yield f'<line x1="{x}" y1="{top + height}" x2="{x}" y2="{top + height + _GAP}" stroke="#9e9e9e"/>'
    made = "the base" if summary.parent is None else f"on release {summary.parent}, round {summary.round}"
    lines = (f"release {step.number}   {when(summary.created_at_s)}", f"{made}: {summary.method}")
    for line, text in enumerate(lines):
        yield _text(_LEFT + 12, top + (line + 1) * _LINE, text, most=58)
    yield _text(_LEFT + 12, top + 3 * _LINE, f"model {summary.name.model_digest[:16]}", kind="d")
    yield _text(_LEFT + 12, top + 4 * _LINE, signed.in_words, colour=colour, most=58)
    for line, row in enumerate(_rows(step)):
        yield _text(_RIGHT, top + (line + 1) * _LINE, row)
    if summary.num_contributions:
        y = top + height // 2
        yield f'<line x1="{_LEFT + _BOX}" y1="{y}" x2="{_RIGHT - 10}" y2="{y}" stroke="#9e9e9e"/>'


def _rows(step: Step) -> Iterator[str]:
    shown: Iterable[str] = [contribution_words(each) for each in step.summary.contributions[:NAMED]]
    yield from shown
    left = step.summary.num_contributions - min(len(step.summary.contributions), NAMED)
    if left > 0:
        yield f"{plural(left, 'contribution')}{' more' if step.summary.contributions else ''}"


def _text(x: int, y: int, text: str, *, kind: str = "", colour: str = "", most: int = _MOST_CHARS) -> str:
    look = f' class="{kind}"' if kind else f' style="fill:{colour}"' if colour else ""
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return f'<text x="{x}" y="{y}"{look}>{_safe(short)}</text>'


def _safe(text: str) -> str:
    """Return words as they may stand in XML: without what acts on a reader's screen, or is no character of XML."""
    return escape(printable(text))
