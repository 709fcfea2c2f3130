"""What a file is, by its first bytes and its ending, and what to do with one that holds no table for coldfuse."""

from __future__ import annotations

import re
import zipfile
from enum import Enum

from coldfuse.data.folders import DOCUMENT_ENDINGS, TOKEN_ENDINGS
from coldfuse.data.sources import Source
from coldfuse.data.tables import Choice, FileFormat
from coldfuse.errors import UserInputError


class Kind(Enum):
    """A kind of file that tables are read from."""

    DELIMITED = "CSV or TSV"
    JSON = "JSON"
    PARQUET = "Parquet"
    ARROW = "Arrow"
    DOCUMENT = "plain text"
    TOKENS = "CoNLL"


_MARKS = {
    re.compile(rb"PAR1[\x00-\x08\x0e-\x1f\x80-\xff]"): Kind.PARQUET,
    re.compile(rb"ARROW1\x00\x00|\xff\xff\xff\xff"): Kind.ARROW,
}
_BY_ENDING = {
    ".jsonl": Kind.JSON, ".json": Kind.JSON, ".ndjson": Kind.JSON, ".parquet": Kind.PARQUET, ".pq": Kind.PARQUET,
    ".arrow": Kind.ARROW, ".feather": Kind.ARROW,
}  # fmt: skip
_TABLES = (".csv", ".tsv", ".tab", *_BY_ENDING)
_JSON_START = re.compile(rb'\s*(?:\{\s*["}]|\[\s*[\[{\]])')

_SPREADSHEET = "a spreadsheet; save its sheet as CSV (UTF-8)"
_PICKLE = "a pickle, which can run code when it is opened; save the data as CSV, JSON lines or Parquet"
_TENSORS = "a file of tensors, not of texts; give the texts as CSV, JSON lines or Parquet"
_ARCHIVE = "an archive; unpack it and name the file inside"
_DOCUMENT = "a document, not a table; save its rows as CSV or JSON lines"
_DATABASE = "a database; name it with a query, 'sqlite:///FILE?query=SELECT text, label FROM …', or export the table"
_WEB_PAGE = "a web page, perhaps instead of a download that failed; fetch the file itself"
_OTHER_TABLE = "a kind of table that is not read; save it as Parquet"
_MEDIA = "a picture, sound or film, not a table"
_UNKNOWN = "a binary file of a kind that is not read; save the data as CSV, JSON lines or Parquet"

_REFUSED_ENDINGS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"), _SPREADSHEET),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".pt", ".pth", ".bin", ".safetensors", ".npy", ".npz", ".h5", ".hdf5"), _TENSORS),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".zst"), _ARCHIVE),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf"), _DOCUMENT),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".sql", ".duckdb"), _DATABASE),
    **dict.fromkeys((".html", ".htm", ".xml"), "a web page or XML; save the data as CSV, JSON lines or Parquet"),
    **dict.fromkeys((".orc", ".avro"), _OTHER_TABLE),
    ".sav": "a file of SPSS; save the data as CSV", ".dta": "a file of Stata; save the data as CSV",
}  # fmt: skip
_REFUSED_MARKS = {
    re.compile(rb"\x80[\x02-\x05]"): _PICKLE,
    re.compile(rb"\xd0\xcf\x11\xe0"): "an old Office file; save its sheet as CSV (UTF-8)",
    re.compile(rb"\x93NUMPY|\x89HDF"): _TENSORS,
    re.compile(rb"7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd"): _ARCHIVE,
    re.compile(rb".{257}ustar", re.DOTALL): _ARCHIVE,
    re.compile(rb"%PDF|\{\\rtf"): _DOCUMENT,
    re.compile(rb"SQLite format 3"): _DATABASE,
    re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml)", re.IGNORECASE): _WEB_PAGE,
    re.compile(rb"version https://git-lfs"): "a pointer of Git LFS, not the file; get the file itself by git lfs pull",
    re.compile(rb"(?:FEA1|ORC|Obj\x01).{0,200}?\x00", re.DOTALL): _OTHER_TABLE,
    re.compile(rb"\x89PNG|\xff\xd8\xff|(?:GIF8|RIFF|OggS|ID3).{0,50}?\x00", re.DOTALL): _MEDIA,
}
_CONTROLS = bytes({*range(32)} - set(b"\t\n\v\f\r"))
_UNICODE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def kind_of(source: Source, choice: Choice, file_format: FileFormat) -> Kind:
    """Say how a file is to be read.

    Args:
        source: The file.
        choice: What is looked for: of texts alone, a plain text file is one.
        file_format: What the user says of it; with an encoding, it holds text.

    Raises:
        UserInputError: It is of a kind that is not read, is empty, or is not what its ending says.
    """
    head = source.head()
    plain = _plain(source, choice, file_format, head)
    if not head.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        if plain is Kind.DOCUMENT:
            return plain
        raise UserInputError(
            f"{source.name}: cannot be read: it is empty, expected a table with a text and a label column"
        )
    marked = next((kind for mark, kind in _MARKS.items() if mark.match(head)), None)
    if marked is not None:
        return marked
    if reason := _refused(source, head):
        raise UserInputError(f"{source.name}: is {reason}")
    by_ending = _BY_ENDING.get(source.ending)
    if by_ending in (Kind.PARQUET, Kind.ARROW):
        raise UserInputError(f"{source.name}: cannot be read: it does not begin as a {by_ending.value} file does")
    if file_format.encoding is None and not head.startswith(_UNICODE_MARKS) and (reason := _no_text(head)):
        raise UserInputError(f"{source.name}: {reason}")
    return plain or by_ending or (Kind.JSON if _is_json(head) else Kind.DELIMITED)


def _plain(source: Source, choice: Choice, file_format: FileFormat, head: bytes) -> Kind | None:
    """Say whether a file of text is no table: documents, or tokens with their tags."""
    if choice.takes_documents and file_format.documents is not None and source.ending not in _TABLES:
        return Kind.DOCUMENT
    if choice.takes_documents and source.ending in DOCUMENT_ENDINGS and not _is_json(head):
        return Kind.DOCUMENT
    if choice.takes_tokens and (source.ending in TOKEN_ENDINGS or _looks_like_tokens(source, choice, head)):
        return Kind.TOKENS
    return None


def _looks_like_tokens(source: Source, choice: Choice, head: bytes) -> bool:
    """Tell a CoNLL file under another ending: its first line names no column, and a blank line ends a sentence."""
    if source.ending in (".csv", *_BY_ENDING) or _is_json(head):
        return False
    lines = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").splitlines()
    if not lines or choice.is_likely(re.split(r"[\t,;| ]", lines[0])) > 1:
        return False
    return source.ending in DOCUMENT_ENDINGS or any(not line.strip() for line in lines[1:])


def _is_json(head: bytes) -> bool:
    return _JSON_START.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def _refused(source: Source, head: bytes) -> str | None:
    if head.startswith(b"PK\x03\x04"):
        return _inside_zip(source)
    by_mark = next((reason for mark, reason in _REFUSED_MARKS.items() if mark.match(head)), None)
    return by_mark or _REFUSED_ENDINGS.get(source.ending)


def _inside_zip(source: Source) -> str:
    """Office files and saved tensors are zip archives, too."""
    try:
        with source.open() as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        names = []
    for start, reason in (("xl/", _SPREADSHEET), ("word/", _DOCUMENT), ("ppt/", _DOCUMENT)):
        if any(name.startswith(start) for name in names):
            return reason
    by_ending = _REFUSED_ENDINGS.get(source.ending)
    return _TENSORS if any(name.endswith(("data.pkl", ".npy")) for name in names) else by_ending or _ARCHIVE


def _no_text(head: bytes) -> str | None:
    """Say why bytes are no text of an encoding in which ASCII is what it is; a few odd characters are let pass."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 > len(head) and min(even, odd) * 8 < max(even, odd):
        name = "utf-16-le" if odd > even else "utf-16-be"
        return f"looks like UTF-16 without its mark; say so with --text-encoding {name}"
    num_controls = len(head) - len(head.translate(None, _CONTROLS))
    return f"is {_UNKNOWN}" if num_controls * 10 > len(head) else None
