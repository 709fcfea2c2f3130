"""Texts, or pairs of texts, each with any number of labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from coldfuse.data.records import Records, read_records
from coldfuse.data.roles import Role
from coldfuse.data.words import listing
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.targets import TEXT, TEXT_PAIR, TextsWithTargets, require_pairs_like, texts_of
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.classifying import TextFeatures
    from coldfuse.training.settings import TrainingSettings

LABELS = Role(
    "labels", ("labels", "label", "tags", "categories", "classes", "topics"), is_required=False, what="labels"
)
"""A list of labels; a row without any has none of them."""

_BETWEEN = "|;,"
_NONE = "none"
_STRENGTH = 0.1
"""Weaker than a choice between classes needs: a label is said where its output is above 0, and a strong penalty keeps
rare labels below it."""
_TRUTHS: Mapping[object, float] = {
    **dict.fromkeys((1, "1", "1.0", "true", "True", "TRUE", "yes"), 1.0),
    **dict.fromkeys((0, "0", "0.0", "false", "False", "FALSE", "no"), 0.0),
}


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """A private linear head with one output a label; each is a yes or no of its own.

    Labels are a list a row (in CSV: a JSON list, or words with a separator), or one column of 0 and 1 each, which
    `--column labels=FIRST,SECOND,…` names.
    """

    name: ClassVar[str] = "multi-label-classification"
    metric: ClassVar[str] = "macro F1"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = True

    separator: str = ""
    """What stands between the labels of one cell; `none` where a cell is one label, whatever is in it."""

    def read(self, request: DataRequest, *, like: TextsWithTargets | None = None) -> TextsWithTargets:
        """Read texts and labels; see `Task.read`."""
        named = dict(request.columns)
        columns = [name.strip() for name in named.pop("labels", "").split(",") if name.strip()]
        roles, chosen = [TEXT, TEXT_PAIR], dict(named)
        if len(columns) > 1:
            own = {f"label {name}": name for name in columns}
            roles += [Role(role, (name.lower(),), what=f"label {name}") for role, name in own.items()]
            chosen |= own
        else:
            roles.append(LABELS)
            chosen |= {"labels": columns[0]} if columns else {}
        records = read_records(
            request.data, roles, columns=chosen, file_format=request.file_format, limit=request.limit
        )
        rows = _by_column(records, columns) if len(columns) > 1 else self._by_cell(records)
        names = like.names if like else _names(records, rows, columns)
        texts, pairs = texts_of(records)
        made = TextsWithTargets(
            texts=texts, text_pairs=pairs, targets=_targets(records, rows, names), names=names, report=records.report
        )
        if like is not None:
            require_pairs_like(made, like)
        return made

    def _by_cell(self, records: Records) -> list[list[str]]:
        cells = records.columns.get("labels")
        if cells is None:
            raise UserInputError(
                "no column of labels was found; name it with --column labels=NAME, or name one column of 0 and 1 for "
                "each label with --column labels=FIRST,SECOND"
            )
        declared = records.class_names.get("labels", ())
        return [self._labels(records, index, cell, declared) for index, cell in enumerate(cells)]

    def _labels(self, records: Records, index: int, cell: Any, declared: Sequence[str]) -> list[str]:
        """Return the labels of one cell."""
        where = records.place(index)
        if isinstance(cell, str) and cell.lstrip().startswith("["):
            try:
                cell = json.loads(cell)
            except ValueError:
                raise UserInputError(f"{where}: its labels begin as a JSON list and are none") from None
        if isinstance(cell, str):
            cell = self._split(where, cell)
        values = cell if isinstance(cell, list | tuple) else [] if cell is None else [cell]
        found = []
        for value in values:
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise UserInputError(f"{where}: a label is a {type(value).__name__}, expected a word or a whole number")
            if isinstance(value, int) and declared and not 0 <= value < len(declared):
                raise UserInputError(f"{where}: label {value} is none of the {len(declared)} that the data name")
            found.append(declared[value] if isinstance(value, int) and declared else str(value).strip())
        return found

    def _split(self, where: str, cell: str) -> list[str]:
        if self.separator == _NONE:
            return [cell]
        if self.separator:
            return [word.strip() for word in cell.split(self.separator) if word.strip()]
        held = [mark for mark in _BETWEEN if mark in cell]
        if held:
            raise UserInputError(
                f"{where}: its labels are one text with {held[0]!r} in it; say what stands between labels with --task "
                f"'{self.name}(separator=\"{held[0]}\")', or separator=none where nothing does"
            )
        return [cell.strip()]

    def load(self, base_dir: Path, examples: TextsWithTargets, settings: TrainingSettings) -> TaskModel:
        """Put a head of zeros on the base's body; see `Task.load`."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        from coldfuse.training.classifying import classifier_of, load_classifier

        loaded = load_classifier(base_dir, num_outputs=len(examples.names), settings=settings)
        classifier_of(loaded).loss = binary_cross_entropy_with_logits
        loaded.notes = {"labels": json.dumps(list(examples.names))}
        return loaded

    def encode(self, loaded: TaskModel, examples: TextsWithTargets) -> TextFeatures:
        """Tokenise; see `Task.encode`."""
        from coldfuse.training.classifying import TextFeatures, tokenize_for

        return TextFeatures(texts=tokenize_for(loaded, examples), labels=examples.targets)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Fit a logistic regression for each label on the body's features; see `Task.start_head`."""
        from coldfuse.training.classifying import fit_head, summed_over_labels

        fit_head(loaded, features, summed_over_labels, strength=_STRENGTH)

    def score(self, loaded: TaskModel, examples: TextsWithTargets, features: Sequence[Feature]) -> float:
        """Return the mean over the labels of F1 (scikit-learn's macro average); see `Task.score`."""
        from sklearn.metrics import f1_score

        from coldfuse.training.classifying import logits_of

        said = (logits_of(loaded, features) > 0).cpu().numpy()
        return float(f1_score(list(examples.targets), said, average="macro", zero_division=0.0))


def _by_column(records: Records, columns: Sequence[str]) -> list[list[str]]:
    """Return the labels of each row whose column says yes."""
    rows: list[list[str]] = [[] for _ in range(len(records))]
    for name in columns:
        for index, value in enumerate(records.columns[f"label {name}"]):
            key = value.strip() if isinstance(value, str) else value
            if not isinstance(key, str | int | float) or key not in _TRUTHS:
                raise UserInputError(f"{records.place(index)}: column {name!r} has neither 0 nor 1")
            if _TRUTHS[key]:
                rows[index].append(name)
    return rows


def _names(records: Records, rows: Sequence[Sequence[str]], columns: Sequence[str]) -> tuple[str, ...]:
    if len(columns) > 1:
        return tuple(columns)
    names = records.class_names.get("labels") or tuple(sorted({label for row in rows for label in row}))
    if not names:
        raise UserInputError("no row has a label; name their column with --column labels=NAME")
    if len(names) * 2 > len(rows):
        raise UserInputError(
            f"the labels are {len(names):,} different ones in {len(rows):,} rows, which looks like free text; name the "
            "labels' column with --column labels=NAME"
        )
    return tuple(names)


def _targets(
    records: Records, rows: Sequence[Sequence[str]], names: Sequence[str]
) -> tuple[float | tuple[float, ...], ...]:
    places = {name: place for place, name in enumerate(names)}
    for index, row in enumerate(rows):
        if any(label not in places for label in row):
            raise UserInputError(
                f"{records.place(index)}: a label that the training data lack; they have {listing(names)}"
            )
    found = [set(row) for row in rows]
    return tuple(tuple(float(name in row) for name in names) for row in found)
