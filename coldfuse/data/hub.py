"""Data sets of the Hugging Face Hub, read by `datasets`: downloaded, or streamed where only some rows are wanted.

Files of data are downloaded and nothing else: the readers are those of `datasets` itself, for plain kinds of files. A
data set that is made by code of its own, or of a kind whose reader can run some, is refused; so is, by `datasets` 5,
one whose card names files elsewhere, such as those of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coldfuse.data.addresses import HubAddress
from coldfuse.data.arrow_tables import inner_names
from coldfuse.data.nested import ColumnPath
from coldfuse.data.tables import Row, Table, Wanted, plain_number
from coldfuse.data.words import listing, shown
from coldfuse.errors import UserInputError
from coldfuse.extras import requiring

_READERS = frozenset({"arrow", "audiofolder", "conll", "csv", "imagefolder", "json", "parquet", "text"})
"""Readers of `datasets` that parse and run nothing."""
_CLOSED = (401, 403, 404)
"""Answers of the Hub for what is not there, and for what is not shown to this user."""


def open_hub(address: HubAddress, *, is_streamed: bool) -> Table:
    """Open a data set of the Hub as a table.

    Args:
        address: Which.
        is_streamed: Whether rows are read from the network as they are wanted, instead of downloading all files.

    Raises:
        UserInputError: It is not there or not open to this user, is no plain data, or a split or subset must be named.
        MissingExtraError: `datasets` is not installed.
    """
    with requiring(f"reading {address.name}", "data", at_once=("datasets",)), _explaining(address):
        found = _loaded(address, is_streamed=is_streamed)
    names = tuple(found.features)

    def rows(wanted: Wanted) -> Iterator[Row]:
        paths = [ColumnPath.of(name, names) for name in wanted.columns]
        with _explaining(address):
            chosen = found.select_columns(list(dict.fromkeys(path.column for path in paths)))
            for number, row in enumerate(chosen, start=1):
                yield number, [plain_number(path.inside(row[path.column])) for path in paths]

    return Table(
        name=address.name, names=names, inner=inner_names(found.features.arrow_schema), rows=rows, unit="row",
        form=("streamed",) if is_streamed else (), class_names=_class_names(found.features),
    )  # fmt: skip


def _loaded(address: HubAddress, *, is_streamed: bool) -> Any:
    """Return one split, pictures and sounds of it as bytes."""
    from datasets import Audio, Image, load_dataset_builder

    if Path(address.id).exists():  # which the library would read instead, whatever is in it
        raise UserInputError(
            f"{address.name}: a folder {address.id} lies here, too; name it as data, or start coldfuse elsewhere"
        )
    builder = load_dataset_builder(address.id, name=address.config, revision=address.revision)
    reader = type(builder).__module__
    kind = reader.rpartition(".")[2]
    if not reader.startswith("datasets.packaged_modules.") or kind not in _READERS:
        raise UserInputError(f"{address.name}: is read by {shown(kind)}, expected {listing(sorted(_READERS))}")
    split = _split_of(address, builder)
    if is_streamed:
        found = builder.as_streaming_dataset(split=split)
    else:
        builder.download_and_prepare()
        found = builder.as_dataset(split=split)
    if found.features is None:
        found = found._resolve_features()
    for column, feature in found.features.items():
        if isinstance(feature, Image | Audio):
            found = found.cast_column(column, type(feature)(decode=False))
    return found


def _split_of(address: HubAddress, builder: Any) -> str:
    """Return the split that is meant: the one that is named, or the only one."""
    splits = [str(name) for name in builder.info.splits or builder.config.data_files or ()]
    if address.split is None and len(splits) == 1:
        return splits[0]
    if address.split is not None and address.split in splits:
        return address.split
    said = f"has no split {shown(address.split)}" if address.split else "has several splits"
    subset = f"/{address.config}" if address.config else ""
    example = f"hf://{address.id}{subset}:{splits[0] if splits else 'train'}"
    raise UserInputError(f"{address.name}: {said}; name one of {listing(splits)}, as in {example}")


def _class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    from datasets import ClassLabel

    def label_of(feature: Any) -> Any:
        return getattr(feature, "feature", feature)  # of a list, that of its elements

    return {
        name: tuple(label_of(feature).names)
        for name, feature in features.items()
        if isinstance(label_of(feature), ClassLabel)
    }


@contextmanager
def _explaining(address: HubAddress) -> Iterator[None]:
    """Say in a line what the library or the network says, and let neither print anything."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.exceptions import DatasetBuildError, DatasetsError
    from datasets.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    bars = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    except DatasetBuildError as error:  # its message holds rows
        cause = error.__cause__ or error
        raise UserInputError(
            f"{address.name}: its files cannot be read ({type(cause).__name__}); download them, and name those to read"
        ) from None
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise UserInputError(f"{address.name}: cannot be read from the Hub: {_reason(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if not bars:
            enable_progress_bars()


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, FileNotFoundError) or status in _CLOSED:
        return "there is no such data set, or it is not open to you (hf auth login)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(map(shown, lines[0].split()[:40])) if lines else type(error).__name__
