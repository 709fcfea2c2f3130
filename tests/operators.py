"""Operators and members with home folders of their own, who run commands in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_rounds import make_model, write_model
from typer.testing import CliRunner, Result

from coldfuse.cli.main import app
from coldfuse.trust.home import FederationFolder


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


@dataclass(frozen=True)
class Person:
    """Somebody with a home folder."""

    home: Path

    def run(self, *words: object, stdin: str | None = None) -> Result:
        """Run a command, however it ends."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLDFUSE_HOME", str(self.home))
            return CliRunner().invoke(app, [str(word) for word in words], input=stdin)

    def succeed(self, *words: object, stdin: str | None = None) -> Result:
        """Run a command that must go well."""
        result = self.run(*words, stdin=stdin)
        if result.exception is not None:
            raise result.exception
        return result

    def fail(self, *words: object, stdin: str | None = None) -> str:
        """Run a command that must end with an error that coldfuse raises on purpose, and return its sentence."""
        result = self.run(*words, stdin=stdin)
        assert result.exception is not None, result.output
        if isinstance(result.exception, SystemExit):
            return result.output
        return f"{type(result.exception).__name__}: {result.exception}"

    def members(self, store: object) -> dict[str, dict[str, object]]:
        """Return what `coldfuse members` lists, by name."""
        rows = json.loads(self.succeed("members", store, "--json").stdout)
        return {row["name"]: row for row in rows}

    def root(self, store: object) -> dict[str, object]:
        """Return what `coldfuse keys show` says."""
        return dict(json.loads(self.succeed("keys", "show", store, "--json").stdout))

    def folder(self, fingerprint: str) -> FederationFolder:
        """Return what this person holds of a federation."""
        return FederationFolder(self.home, fingerprint)


@dataclass(frozen=True)
class Place:
    """A folder with a federation and those who take part in it."""

    path: Path

    @property
    def store(self) -> Path:
        """Where the federation is."""
        return self.path / "store"

    def person(self, name: str) -> Person:
        """Return somebody by name; the home folder need not be there yet."""
        return Person(self.path / "homes" / name)

    def base(self) -> Path:
        """Return a model to begin with."""
        folder = self.path / "base"
        return folder if folder.exists() else write_model(folder, make_model())

    def init(self, *options: object, name: str = "ada") -> Person:
        """Create the federation, as its first operator."""
        person = self.person(name)
        person.succeed("init", self.store, "--base", self.base(), *options)
        return person

    def fingerprint(self) -> str:
        """Return the fingerprint of the root, as the store has it."""
        from coldfuse.trust.root import fingerprint_of

        return fingerprint_of((self.store / "root" / "1.json").read_bytes())
