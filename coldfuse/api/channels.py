"""Channels, and what stands on the line of the latest release, for who looks at a history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from coldfuse.api.values import when
from coldfuse.core.release import Channel
from coldfuse.core.rollback import Line
from coldfuse.core.words import printable
from coldfuse.gateway import ReleaseSummary


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A release of a history, and what it counts now."""

    summary: ReleaseSummary
    channels: tuple[str, ...] = ()
    """Names of the channels that point to it."""
    is_taken_back: bool = False
    """Whether the latest release was not made of it: it was rolled back, or replaced as something was retracted."""

    @property
    def mark(self) -> str:
        """What there is to say of it after a line about it; "" for most."""
        words = [*self.channels, *(["taken back"] if self.is_taken_back else [])]
        return f"  [{', '.join(words)}]" if words else ""


def placed(summaries: Iterable[ReleaseSummary], channels: Mapping[str, Channel]) -> Iterator[Placed]:
    """Yield the releases of a history, each with its channels, and whether it was taken back.

    Args:
        summaries: The releases, newest first, none left out.
        channels: The channels, by their names.
    """
    latest = channels.get("latest")
    line = Line(latest.release) if latest is not None else None
    for summary in summaries:
        number = summary.name.number
        names = tuple(name for name, channel in sorted(channels.items()) if channel.release == number)
        is_on = line is None or line.has(number, summary.parent)
        yield Placed(summary=summary, channels=names, is_taken_back=not is_on)


def describe_channels(channels: Mapping[str, Channel]) -> list[str]:
    """Say in lines where channels point that have something to say; none where `latest` is all there is."""
    others = [f"{name} is release {channel.release}" for name, channel in sorted(channels.items()) if name != "latest"]
    lines = [f"channels: {', '.join(others)}"] if others else []
    rollback = channels["latest"].rollback if "latest" in channels else None
    if rollback is not None:
        lines.append(
            f"last {printable(str(rollback))}; by {printable(rollback.by) or 'nobody known'}, {when(rollback.at_s)}"
        )
    return lines
