"""Pictures with one label each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from coldfuse.data.dataset import split
from coldfuse.data.labels import Labels, name_labels
from coldfuse.data.records import RecordsReport, Role, read_records
from coldfuse.data.words import listing
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.pictures import Pictures, pictures_of
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.settings import TrainingSettings

_ROLES = (
    Role("image", ("image", "img", "picture", "photo", "pixel_values", "file", "file_name", "path"), what="pictures"),
    Role("label", ("label", "labels", "class", "category", "target", "fine_label"), what="labels"),
)


@dataclass(frozen=True, kw_only=True)
class ImageClassification:
    """Name what a picture shows, with a private linear head on the mean of the body's last hidden states.

    Data are folders of class folders, or tables with the pictures' bytes or the names of their files.
    """

    name: ClassVar[str] = "image-classification"
    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = True

    def read(self, request: DataRequest, *, like: Pictures | None = None) -> Pictures:
        """Read pictures and labels, and try each picture; see `Task.read`."""
        records = read_records(
            request.data, _ROLES, columns=request.columns, file_format=request.file_format, limit=request.limit
        )
        report = records.report
        where = report.files[0] if report else "data"
        known = like.label_names if like is not None else records.class_names.get("label")
        labels = name_labels(records.columns["label"], known=known, where=where)
        kept = [index for index, number in enumerate(labels.numbers) if number is not None]
        pictures, digests = pictures_of(records.take(kept))
        numbers = tuple(number for number in labels.numbers if number is not None)
        if like is None and len(set(numbers)) < 2:
            raise UserInputError(
                f"{where}: expected pictures of two classes or more; name the column of the classes with --column "
                "label=NAME"
            )
        return Pictures(
            pictures=pictures, digests=digests, labels=numbers, label_names=labels.names,
            report=_said(report, labels, num_left_out=len(records) - len(kept)),
        )  # fmt: skip

    def split(self, examples: Pictures, *, validation_fraction: float, seed: int) -> tuple[Pictures, Pictures]:
        """Set examples apart, the same share of every class."""
        return split(examples, validation_fraction=validation_fraction, seed=seed)

    def load(self, base_dir: Path, examples: Pictures, settings: TrainingSettings) -> TaskModel:
        """Put a head of zeros on the base's body; see `Task.load`."""
        from coldfuse.training.tasks.seeing import load_picture_classifier

        loaded = load_picture_classifier(base_dir, num_classes=len(examples.label_names), settings=settings)
        loaded.notes = {"labels": json.dumps(list(examples.label_names))}
        return loaded

    def encode(self, loaded: TaskModel, examples: Pictures) -> Sequence[Feature]:
        """Put pictures and labels side by side; pictures are decoded batch by batch; see `Task.encode`."""
        length = loaded.processor.num_patches
        return [
            {"picture": picture, "labels": label, "length": length}
            for picture, label in zip(examples.pictures, examples.labels, strict=True)
        ]

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Make the head the linear probe of the body; see `Task.start_head`."""
        from coldfuse.training.tasks.seeing import probe_pictures

        probe_pictures(loaded, features)

    def score(self, loaded: TaskModel, examples: Pictures, features: Sequence[Feature]) -> float:
        """Return the share of the pictures whose most likely class is their label; see `Task.score`."""
        from coldfuse.training.tasks.scoring import run_over

        num_right = 0
        for indices, _, output in run_over(loaded, features):
            found = output.logits.argmax(-1).tolist()
            num_right += sum(examples.labels[index] == label for index, label in zip(indices, found, strict=True))
        return num_right / max(len(examples), 1)


def _said(report: RecordsReport | None, labels: Labels, *, num_left_out: int) -> RecordsReport | None:
    """Return what was read, with what is to be said of the labels."""
    if report is None:
        return None
    missing = dict(report.missing) | ({"a label": num_left_out} if num_left_out else {})
    counted = Counter(labels.numbers)
    classes = listing(f"{name} {counted[number]:,}" for number, name in enumerate(labels.names))
    return replace(report, missing=missing, notes=(*report.notes, *labels.notes, f"classes: {classes}"))
