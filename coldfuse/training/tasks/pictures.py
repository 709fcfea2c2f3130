"""Pictures as people have them - files, or bytes in a column - checked once and decoded when they are used."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldfuse.data.records import Records, RecordsReport
from coldfuse.data.sources import read_at_most
from coldfuse.data.words import printable
from coldfuse.errors import UserInputError
from coldfuse.extras import requiring

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that are read: each is decoded by Pillow itself, and none runs another program."""
_MOST_BYTES = 256 << 20
_HINT = "repair it or take it out"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture, not yet decoded."""

    place: str
    """Where it comes from, for messages: its file, or the row of a table."""
    path: Path | None
    """Its file; None where a table holds its bytes."""
    content: bytes | None = field(default=None, repr=False)
    """Its bytes, where a table holds them."""

    def open(self) -> Image:
        """Decode it, in red, green and blue.

        Raises:
            UserInputError: It is no picture, damaged, or has more points than Pillow holds for safe.
        """
        return self._decoded(self._bytes(), is_tried=False)

    def check(self) -> str:
        """Return the digest of its bytes, once it was tried whether they can be decoded; raises as `open` does."""
        content = self._bytes()
        self._decoded(content, is_tried=True)
        return hashlib.sha256(content).hexdigest()

    def _bytes(self) -> bytes:
        if self.content is not None:
            return self.content
        try:
            with Path(self.path or "").open("rb") as file:
                content = read_at_most(file, _MOST_BYTES + 1)
        except OSError as error:
            raise UserInputError(f"{self.place}: cannot be read: {error.strerror or error}") from error
        if len(content) > _MOST_BYTES:
            raise UserInputError(f"{self.place}: is larger than {_MOST_BYTES >> 20} MiB; shrink it")
        return content

    def _decoded(self, content: bytes, *, is_tried: bool) -> Image:
        import PIL.Image

        bombs = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
                image = PIL.Image.open(io.BytesIO(content), formats=FORMATS)
                if is_tried:
                    image.draft("L", (8, 8))  # a JPEG is read to its end, but only an eighth of it is computed
                image.load()
                return image.convert("RGB")
        except bombs:
            most = PIL.Image.MAX_IMAGE_PIXELS or 0
            raise UserInputError(f"{self.place}: has more than {most:,} points; shrink it") from None
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, LookupError) as error:
            raise UserInputError(
                f"{self.place}: cannot be read as a picture ({type(error).__name__}); {_HINT}; expected one of "
                f"{', '.join(FORMATS)}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures with what belongs to each: a class, or a text."""

    pictures: tuple[Picture, ...] = field(repr=False)
    """The pictures."""
    digests: tuple[str, ...] = field(repr=False)
    """SHA-256 of the bytes of each."""
    labels: tuple[int, ...] = field(default=(), repr=False)
    """Class of each, an index into `label_names`."""
    label_names: tuple[str, ...] = ()
    """Names of the classes."""
    texts: tuple[str, ...] = field(default=(), repr=False)
    """Text of each."""
    report: RecordsReport | None = field(default=None, repr=False)
    """What was read to make them."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures)

    def take(self, indices: Sequence[int]) -> Pictures:
        """Return the examples at `indices`, in that order."""
        parts: dict[str, Any] = {
            name: tuple(values[i] for i in indices) if (values := getattr(self, name)) else ()
            for name in ("pictures", "digests", "labels", "texts")
        }
        return replace(self, **parts, report=None)

    def digest(self) -> str:
        """Return the digest of the pictures' bytes, the labels with their names, and the texts."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        digest.update(json.dumps([self.digests, self.labels, self.texts]).encode())
        return digest.hexdigest()


def pictures_of(records: Records) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """Return the pictures in the column of the role `image`, each tried once, and their digests.

    Raises:
        UserInputError: One is none, or is damaged; the message has its file's name, or its row.
        MissingExtraError: Pillow is not installed.
    """
    with requiring("reading pictures", "data", at_once=("PIL",)):
        pictures = tuple(_picture(value, records.place(index)) for index, value in enumerate(records.columns["image"]))
        return pictures, tuple(picture.check() for picture in pictures)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long for a name, or with NUL
        return False


def _picture(value: object, place: str) -> Picture:
    """Return a cell as a picture: bytes, the name of a file, or both as `datasets` has them."""
    content = value.get("bytes") if isinstance(value, Mapping) else value if isinstance(value, bytes) else None
    path = value.get("path") if isinstance(value, Mapping) else value if isinstance(value, str) else None
    if isinstance(content, bytes):
        return Picture(place=place, path=None, content=content)
    if isinstance(path, str) and _is_file(path):
        return Picture(place=printable(path), path=Path(path))
    if isinstance(path, str):  # which may be a text of another column, so that it is not said
        raise UserInputError(f"{place}: names a file that is not there; name the column of the pictures with --column "
                             "image=NAME, and files as they are seen from here")  # fmt: skip
    raise UserInputError(
        f"{place}: holds {type(value).__name__}, expected a picture: its bytes, or the name of its file; name "
        "its column with --column image=NAME"
    )
