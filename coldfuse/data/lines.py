"""Bytes to lines of text: encodings, marks and line ends as files have them, with the place of what cannot be read."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from coldfuse.data.sources import Source, read_at_most
from coldfuse.data.words import shown
from coldfuse.errors import UserInputError

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MOST_AT_ONCE_BYTES = 2 << 30
_MARK = "\ufeff"


def encoding_of(source: Source, given: str | None) -> str:
    """Return the name of a file's encoding: by the mark at its beginning, else what the user says, else UTF-8.

    Raises:
        UserInputError: There is no such encoding, or the file shows that it has another.
    """
    head = source.head()
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if given is None:
        return marked or "utf-8"
    if not is_text_encoding(given):
        raise UserInputError(
            f"--text-encoding {shown(given)}: no such encoding; expected one such as utf-8, cp1252, latin-1 or utf-16"
        )
    name = codecs.lookup(given).name
    if marked is not None:
        if not name.startswith(marked):
            raise UserInputError(f"{source.name}: begins with the mark of {marked}; leave --text-encoding {given} out")
        return marked
    if name == "utf-8-sig":
        return "utf-8"
    if not name.startswith("utf-") and _is_utf8(source):
        raise UserInputError(f"{source.name}: is UTF-8 from beginning to end; leave --text-encoding {given} out")
    return given


def is_text_encoding(name: str) -> bool:
    """Say whether there is an encoding of text of this name.

    >>> is_text_encoding("cp1252"), is_text_encoding("UTF-16"), is_text_encoding("base64"), is_text_encoding("int1")
    (True, True, False, False)
    """
    try:
        b"a".decode(name)
    except UnicodeError:
        return True  # one letter is too few for some
    except (LookupError, ValueError):
        return False
    return True


def read_lines(source: Source, encoding: str, *, longest_bytes: int) -> Iterator[str]:
    """Yield the lines with their ends; `\\r`, `\\n` and both together end one.

    Args:
        source: The file.
        encoding: Its encoding, as `encoding_of` says it.
        longest_bytes: A line that is longer is refused before it fills the memory.

    Raises:
        UserInputError: A byte does not fit the encoding, or a line is too long; the message says which.
    """
    by_line = _ends_in_newline_byte(encoding)
    lines = _line_by_line(source, encoding, longest_bytes) if by_line else _at_once(source, encoding)
    for number, line in enumerate(lines):
        yield line.lstrip(_MARK) if number == 0 else line


def _line_by_line(source: Source, encoding: str, longest_bytes: int) -> Iterator[str]:
    number = 0
    with source.open() as file:
        while raw := file.readline(longest_bytes + 1):
            number += 1
            if len(raw) > longest_bytes:
                raise UserInputError(f"{source.name}: line {number} is longer than {longest_bytes >> 20} MiB")
            try:
                line = raw.decode(encoding)
            except UnicodeError as error:
                raise _undecodable(source, encoding, error, f"line {number}") from error
            if "\r" in line and "\r" in line.rstrip("\r\n"):
                yield from io.StringIO(line, newline="")
            else:
                yield line


def _at_once(source: Source, encoding: str) -> Iterator[str]:
    """Read an encoding in which the byte of `\\n` may be half of something else."""
    with source.open() as file:
        raw = read_at_most(file, _MOST_AT_ONCE_BYTES + 1)
    if len(raw) > _MOST_AT_ONCE_BYTES:
        raise UserInputError(f"{source.name}: is more than {_MOST_AT_ONCE_BYTES >> 30} GiB; save it as UTF-8")
    try:
        text = raw.decode(encoding)
    except UnicodeError as error:
        raise _undecodable(source, encoding, error, "the file") from error
    yield from io.StringIO(text, newline="")


def _undecodable(source: Source, encoding: str, error: UnicodeError, where: str) -> UserInputError:
    name = encoding.upper()
    place = ""
    if isinstance(error, UnicodeDecodeError):
        place = f", byte {error.start + 1} (0x{error.object[error.start]:02x})"
    advice = "name its encoding with --text-encoding (often cp1252 or latin-1), or save it as UTF-8"
    return UserInputError(f"{source.name}: {where}{place}: is not {name}; {advice}")


def _ends_in_newline_byte(encoding: str) -> bool:
    try:
        return "a\n".encode(encoding) == b"a\n"
    except UnicodeError:
        return False


def _is_utf8(source: Source) -> bool:
    """Say whether all bytes are UTF-8, and not only ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_ascii = True
    with source.open() as file:
        try:
            while chunk := file.read(1 << 20):
                is_ascii = is_ascii and chunk.isascii()
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return not is_ascii
