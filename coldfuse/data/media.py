"""Folders of pictures or sounds as tables: a folder for each class, or a list of what belongs to each file.

The layouts are those of the Hub's ImageFolder and AudioFolder: `cat/1.png`, `dog/1.png`, or `metadata.csv` (or
`metadata.jsonl`) beside the files, whose column `file_name` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from coldfuse.core.words import plural
from coldfuse.data.tables import Row, Table, Wanted
from coldfuse.data.words import listing, printable
from coldfuse.errors import UserInputError

MEDIA_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"),
}
"""Endings of files by the role that they have."""
_LISTS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TABLES = (".parquet", ".arrow")
_FILE_NAME = "file_name"
_PARTS = frozenset({"train", "training", "test", "dev", "val", "valid", "validation", "eval"})


def is_media_folder(path: Path, media: str) -> bool:
    """Say whether a folder holds files of this kind, or folders of them, and no tables in which they may lie."""
    if not path.is_dir():
        return False
    holds_tables = any(each.suffix in _TABLES and each.name not in _LISTS for each in path.iterdir())
    return not holds_tables and any(True for _ in _files(path, media))


def open_media_folder(folder: Path, media: str, open_list: Callable[[Path], Table]) -> Table:
    """Open a folder of files as a table: the role's name and `label`, or what its list has beside `file_name`.

    A value is `{"bytes": None, "path": …}`, as `datasets` has it, so that nothing is read before it is used.

    Args:
        folder: The folder.
        media: `image` or `audio`.
        open_list: Opens the list of files, if there is one.

    Raises:
        UserInputError: Files lie both in folders of classes and beside them, or the list does not fit the files.
    """
    listed = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    if listed is not None:
        return _listed(folder, open_list(listed), media)
    files = list(_files(folder, media))
    loose = [path.name for path in files if path.parent == folder]
    classes = sorted({path.parent.name for path in files} - ({folder.name} if loose else set()))
    if loose and classes:
        raise UserInputError(
            f"{printable(str(folder))}: holds files beside folders of classes ({listing(loose)}); put each into the "
            "folder of its class"
        )
    if classes and all(name.lower() in _PARTS for name in classes):
        raise UserInputError(
            f"{printable(str(folder))}: holds the parts of a data set, and no classes; name the folder of one: "
            f"{listing(classes)}"
        )
    names = (media,) if loose else (media, "label")

    def rows(wanted: Wanted) -> Iterator[Row]:
        for number, path in enumerate(files, start=1):
            row = {media: file_value(path), "label": None if loose else path.parent.name}
            yield number, [row[name] for name in wanted.columns]

    form = f"a folder of {media}s" if loose else f"{len(classes)} folders of classes"
    return Table(
        name=printable(str(folder)), path=folder, names=names, rows=rows, unit="file", form=(form,),
        notes=_others(folder, media),
    )  # fmt: skip


def file_value(path: Path) -> dict[str, object]:
    """Return a file as a value of a row."""
    return {"bytes": None, "path": str(path)}


def _files(folder: Path, media: str) -> Iterator[Path]:
    """Yield the files of a folder and of its folders in the order of their names; hidden ones are none."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            inside = sorted(path.iterdir())
            yield from (each for each in inside if not each.name.startswith(".") and _is(each, media))
        elif _is(path, media):
            yield path


def _others(folder: Path, media: str) -> list[str]:
    """Say how many files are not read."""
    inside = [path for each in folder.iterdir() for path in (each.iterdir() if each.is_dir() else (each,))]
    num = sum(not path.name.startswith(".") and not _is(path, media) for path in inside)
    return (
        [f"{printable(str(folder))}: {plural(num, 'file')} or folders that are no {media}s were not read"]
        if num
        else []
    )


def _is(path: Path, media: str) -> bool:
    return path.suffix.lower() in MEDIA_ENDINGS[media] and path.is_file()


def _listed(folder: Path, listed: Table, media: str) -> Table:
    """Return the rows of a list, each with its file."""
    listed.require(_FILE_NAME)
    others = tuple(name for name in listed.names if name not in (_FILE_NAME, media))

    def rows(wanted: Wanted) -> Iterator[Row]:
        columns = tuple(_FILE_NAME if name == media else name for name in wanted.columns)
        for number, cells in listed.rows(replace(wanted, columns=columns)):
            values = dict(zip(columns, cells, strict=True))
            if _FILE_NAME in values:
                path = folder / str(values[_FILE_NAME] or "")
                if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
                    raise UserInputError(
                        f"{listed.name}: {listed.unit} {number}: its file_name is no file of the folder; write it from "
                        "the folder on, such as pictures/1.png"
                    )
                values[_FILE_NAME] = file_value(path)
            yield number, [values[name] for name in columns]

    return replace(listed, names=(media, *others), rows=rows, form=(*listed.form, f"a list of {media}s"))
