"""The ensemble teacher of B-Tuning (arXiv 2110.10545, section 5) for a training of the user's own.

A node learns from teachers by `coldfuse contribute --teacher`, see `coldfuse.training.objectives.b_tuning` for the
equations. `teach` gives the same numbers to a Trainer that `coldfuse.attach` lets take part in a federation:

    teaching = teach(Path("base"), {"minilm": Path("minilm"), "release": Path("release")}, data)

    class Taught(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **more):
            targets = inputs.pop("targets")                          # rows of teaching.targets
            outputs = model(**inputs, output_hidden_states=True)
            mask = inputs["attention_mask"].unsqueeze(-1)
            features = (outputs.hidden_states[-1] * mask).sum(1) / mask.sum(1)
            loss = outputs.loss + 100 * mse_loss(teaching.say(features), targets)
            return (loss, outputs) if return_outputs else loss
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.representations import RunSettings
from coldfuse.training.compute import compute_threads
from coldfuse.training.frozen import Passing
from coldfuse.training.learnt import targets_of
from coldfuse.training.objectives.b_tuning import Teaching, ensemble

__all__ = ["Teaching", "teach"]

_AS_USUAL = RunSettings()


def teach(
    base: Path,
    teachers: Mapping[str, Path],
    data: TextDataset,
    *,
    temperature: float = 0.1,
    settings: RunSettings = _AS_USUAL,
) -> Teaching:
    """Ask several bases what they say of labelled texts, weighed by how much LogME expects of each.

    Args:
        base: Folder of the base that is to be tuned.
        teachers: Folders of the bases that teach it, by their names; those that `coldfuse.rank` puts first.
        data: The texts that it is tuned on; every class occurs among them.
        temperature: T; the lower, the more the best teacher alone counts.
        settings: How texts pass through the models.

    Raises:
        UserInputError: A model cannot be loaded, the temperature is not above 0, or a class does not occur.
    """
    if not teachers or not temperature > 0:
        raise UserInputError(f"{len(teachers)} teachers, temperature {temperature}: expected one or more, and above 0")
    if missing := data.num_classes - len(set(data.labels)):
        raise UserInputError(f"{missing} of {data.num_classes} classes have no example; leave them out of label_names")
    passing = Passing(max_length=settings.max_length, device=settings.device, threads=settings.threads)
    with compute_threads(settings.threads):
        return ensemble(
            {name: lambda folder=folder: passing.through(folder, data) for name, folder in teachers.items()},
            targets_of(data.labels), passing.through(base, data), rows=np.arange(len(data)), temperature=temperature,
        )  # fmt: skip
