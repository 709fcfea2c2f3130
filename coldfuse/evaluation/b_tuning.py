"""Tuning one base by what several say: the ensemble teacher of B-tuning (You et al., arXiv 2110.10545, section 5).

    y'(x) = Σ_t π_t m_t F_t(x)        π = softmax(LogME_t / T) over the teachers
    loss  = task's loss + λ · mean (m F(x) − y'(x))²

F_t(x) are a teacher's features of a text, and m_t the weights that LogME finds for them, so that teachers of any width
say numbers of the same K classes. What is tuned says its own by m, which stays as LogME finds it before training. The
paper takes T = 0.1 and λ = 100. `teach` gives y', m and π; the training is the user's own, such as a Trainer that
`coldfuse.attach` lets take part in a federation:

    teaching = teach(Path("base"), {"minilm": Path("minilm"), "release": Path("release")}, data)

    class Taught(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **more):
            targets = inputs.pop("targets")                          # rows of teaching.targets
            outputs = model(**inputs, output_hidden_states=True)
            mask = inputs["attention_mask"].unsqueeze(-1)
            features = (outputs.hidden_states[-1] * mask).sum(1) / mask.sum(1)
            loss = outputs.loss + 100 * mse_loss(teaching.say(features), targets)
            return (loss, outputs) if return_outputs else loss

Shape letters: N examples, H features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.representations import RunSettings
from coldfuse.evaluation.transferability import logme, logme_weights
from coldfuse.training.compute import compute_threads, to_device
from coldfuse.training.encoding import encode_all, tokenize
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer

_AS_USUAL = RunSettings()


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What several bases say of examples, for one that is tuned on them."""

    targets: Tensor
    """What the teachers say together, y', shape (N, K), float32."""
    weights: Tensor
    """Weights m of what is tuned, shape (K, H), float32; they do not train."""
    shares: Mapping[str, float]
    """Share π of each teacher, by name; they sum to 1."""

    def say(self, features_NH: Tensor) -> Tensor:
        """Return what features of the base that is tuned say, shape (N, K)."""
        return features_NH @ self.weights.to(features_NH).T


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
    with compute_threads(settings.threads):
        features = {name: _features(folder, data, settings) for name, folder in teachers.items()}
        own_NH = _features(base, data, settings)
    evidence = np.array([logme(each, data.labels) for each in features.values()])
    share = np.exp((evidence - evidence.max()) / temperature)
    share /= share.sum()
    said = [each @ logme_weights(each, data.labels).T for each in features.values()]
    targets_NK = np.tensordot(share, np.stack(said), axes=1)
    return Teaching(
        targets=torch.from_numpy(targets_NK).float(),
        weights=torch.from_numpy(logme_weights(own_NH, data.labels)).float(),
        shares=dict(zip(features, share.tolist(), strict=True)),
    )


def _features(folder: Path, data: TextDataset, settings: RunSettings) -> NDArray[np.float64]:
    body = to_device(load_body(folder), settings.device)
    tokenizer = load_tokenizer(folder)
    texts = tokenize(tokenizer, data, find_intake(body, tokenizer, max_length=settings.max_length))
    found: NDArray[np.float64] = encode_all(body, texts).cpu().double().numpy()
    return found
