"""One odd file, or a few, with what is right for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.data.tables import FileFormat

Rows = Sequence[tuple[str, ...]]
FILMS: Rows = [
    (f"a {word} film, number {n}", label) for n in range(5) for word, label in (("good", "pos"), ("bad", "neg"))
]
"""Ten rows of text and label; the texts have a comma."""
PLAIN: Rows = [(text.replace(",", ""), label) for text, label in FILMS]


@dataclass(frozen=True, kw_only=True)
class Odd:
    """Files, how they are read, and what must come of it: rows, or words of the refusal."""

    name: str
    files: Mapping[str, bytes | str | Callable[[Path], None]]
    """Content of each file, or what writes it. A name may have folders."""
    data: Sequence[str] = ()
    """What is named to be read; the first file by default."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Columns, separator and encoding."""
    rows: Rows | None = None
    """Text (or two), and name of the class, of every example in order; None: the data are refused."""
    left_out: tuple[int, int] = (0, 0)
    """Rows without text, and without label."""
    says: Sequence[str] = ()
    """What the report, or the refusal, must say."""

    def write(self, folder: Path) -> list[Path]:
        """Write the files; return what is to be read."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes | str):
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
            else:
                content(path)
        return [folder / name for name in self.data or list(self.files)[:1]]

    @property
    def arguments(self) -> dict[str, object]:
        """What `read_dataset` takes beside the files."""
        format_words = {name: self.options.get(name) for name in ("separator", "encoding")}
        columns = {name: word for name, word in self.options.items() if name.endswith("_column")}
        return {**columns, "file_format": FileFormat(**format_words)}

    @property
    def words(self) -> list[str]:
        """The same for the command line."""
        named = {
            name.replace("_", "-").replace("encoding", "text-encoding"): word for name, word in self.options.items()
        }
        return [word for name, value in named.items() for word in (f"--{name}", value)]


def read(name: str, files: Mapping[str, object] | str | bytes, rows: Rows = FILMS, **more: object) -> Odd:
    """Make a case of files that are read; the content alone is that of a CSV file."""
    return Odd(name=name, files=_named(files), rows=rows, **more)


def refused(name: str, files: Mapping[str, object] | str | bytes, *says: str, **more: object) -> Odd:
    """Make a case of files that are refused with these words."""
    return Odd(name=name, files=_named(files), says=says, **more)


def lines(*rows: object, end: str = "\n") -> str:
    """Join lines, and end the last."""
    return "".join(f"{row}{end}" for row in rows)


def table(rows: Rows, *, header: str = "text,label", separator: str = ",", end: str = "\n", quote: bool = False) -> str:
    """Write rows with a separator; cells that hold it are quoted, or all."""

    def cell(value: str) -> str:
        needs = quote or any(mark in value for mark in (separator, '"', "\n", "\r"))
        return '"' + value.replace('"', '""') + '"' if needs else value

    return lines(header, *(separator.join(map(cell, row)) for row in rows), end=end)


def _named(files: object) -> Mapping[str, object]:
    return {"data.csv": files} if isinstance(files, str | bytes) else files
