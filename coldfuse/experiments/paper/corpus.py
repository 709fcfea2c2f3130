"""Texts without labels, of all data sets but those that are to stay unseen to who reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.experiments.fusion_data import Sizes, Task, read_task

_ALL = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts without labels."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    sets: tuple[str, ...]
    """Data sets that they are from."""


def read_corpus(data: Path, sets: Sequence[str], left_out: Sequence[str]) -> Corpus:
    """Read the texts of all data sets but those that are left out, each once.

    Args:
        data: Folder that has one for each data set.
        sets: Data sets to read; none: all.
        left_out: Data sets whose texts are to stay unseen, wherever they stand.

    Raises:
        UserInputError: Nothing is left, or a data set is not there.
    """
    if not data.is_dir():
        raise UserInputError(f"{data}: expected a folder that has one for each data set, and there is none")
    folders = {path.name for path in data.iterdir() if path.is_dir()}
    if missing := {*sets, *left_out} - folders:
        raise UserInputError(f"{data}: expected a folder {min(missing)}, and there is none")
    chosen = sorted({*(sets or folders)} - set(left_out))
    taken = Sizes(train=_ALL, validation=_ALL, test=_ALL)
    hidden = {_key(text) for name in left_out for text in _all_texts(read_task(data / name, taken, seed=0))}
    tasks = [read_task(data / name, taken, seed=0) for name in chosen]
    train = _new(hidden, (text for task in tasks for text in _texts(task.train)))
    validation = _new(hidden, (text for task in tasks for text in _texts(task.validation)))
    if not train or not validation:
        raise UserInputError(f"{data}: no texts are left to pretrain on")
    return Corpus(train=train, validation=validation, sets=tuple(chosen))


def _new(seen: set[str], texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts that were not seen before, and note them as seen."""
    found: list[str] = []
    for text in texts:
        if (key := _key(text)) and key not in seen:
            seen.add(key)
            found.append(text)
    return tuple(found)


def _key(text: str) -> str:
    return " ".join(text.lower().split())


def _texts(data: TextDataset) -> list[str]:
    return [*data.texts, *(data.text_pairs or ())]


def _all_texts(task: Task) -> list[str]:
    return [*_texts(task.train), *_texts(task.validation), *_texts(task.test)]
