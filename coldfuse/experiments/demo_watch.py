"""Watching the demonstration's processes: who has failed, and who has ended because it was left out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.errors import ColdfuseError

Children = Mapping[str, "subprocess.Popen[str]"]


@dataclass
class DemoWatch:
    """Fails once a process has; but the one that is there to be left out is revoked then, as by an operator."""

    children: Children
    logs: Path
    """Folder of what they have said."""
    harmful: str
    """Name of that contributor."""
    dismiss: Callable[..., None]
    """dismiss(name, reason=...): revokes it."""
    _is_dismissed: bool = field(default=False, repr=False)

    def __call__(self) -> None:
        """Look at all of them."""
        for name, child in self.children.items():
            self._look_at(name, child)

    def wait(self, *, but: str) -> None:
        """Wait until all have ended, except for one that does not end by itself."""
        for name, child in self.children.items():
            if name != but:
                child.wait()
                self._look_at(name, child)

    def _look_at(self, name: str, child: subprocess.Popen[str]) -> None:
        reason = rejected(name, self.logs) if name == self.harmful and child.poll() else None
        if reason is None:
            require_alive(name, child, self.logs)
        elif not self._is_dismissed:
            self.dismiss(name, reason=reason)
            self._is_dismissed = True


def require_alive(name: str, child: subprocess.Popen[str], logs: Path) -> None:
    """Make sure that a process has not failed.

    Raises:
        ColdfuseError: It has; the message has its last word.
    """
    if child.poll():
        last = _last_word(name, logs)
        raise ColdfuseError(f"{name} {_ended(child.returncode)}: {last}; see {logs / f'{name}.log'}")


def outcome(name: str, children: Children, logs: Path) -> str:
    """Wait for the end of a contributor, and say what came of it."""
    status, last = children[name].wait(), _last_word(name, logs)
    if last.startswith("stopped"):
        return "stopped"
    if status and (reason := rejected(name, logs)) is not None:
        return reason
    return f"failed: it {_ended(status)}: {last}" if status else "done"


def rejected(name: str, logs: Path) -> str | None:
    """Return why a contributor has ended whose contribution was rejected; None where it has not said so."""
    before, _, reason = _last_word(name, logs).partition(f"{name}: rejected: ")
    return reason if reason and not before else None


def _last_word(name: str, logs: Path) -> str:
    lines = (logs / f"{name}.log").read_text().strip().splitlines() or ["(it said nothing)"]
    return lines[-1].removeprefix("coldfuse: ")


def _ended(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
