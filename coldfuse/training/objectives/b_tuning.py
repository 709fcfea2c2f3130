"""B-Tuning: one base is tuned by what several bases say of the node's own examples (arXiv 2110.10545, section 5).

    y'(x)   = Σ_t π_t m_t F_t(x)            π = softmax(LogME_t / T) over the teachers
    penalty = λ · mean over examples and targets of (m F(x) − y'(x))²

F_t(x) are a teacher's features of a text, and m_t the posterior mean of the Bayesian linear model that LogME finds for
them, so that teachers of any width say numbers of the same targets: of each class, 1 where it is the text's and else 0.
F(x) are the features of what is tuned, with the dropout of training, and m those of its base, which do not train.
Teachers are frozen: each sees every text once, and what it makes of them is kept in the node's folder.

The paper's code takes T = 0.1 and λ = 100, and finds three teachers a good number.

Shape letters: N examples, M of them that linear models are fitted to, B of a batch, H features, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from coldfuse.errors import UserInputError
from coldfuse.tensors.folder_digest import digest_of
from coldfuse.training.evidence import finite, linear_models
from coldfuse.training.feature_cache import FeatureCache
from coldfuse.training.objectives.objective import Beginning, Objective, Term

_FOLDER = "teachers"
_UNWRITABLE = '",()'
"""Marks that separate names and parameters in a line."""
_AT_ONCE = 4096
"""Examples whose features are in memory in float64 at once, once the linear models are fitted."""


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


def ensemble(
    teachers: Mapping[str, Callable[[], Tensor]],
    target_NK: NDArray[np.float64],
    own_MH: Tensor,
    *,
    rows: NDArray[np.int64],
    temperature: float,
) -> Teaching:
    """Weigh what teachers say by how much LogME expects of each; one teacher's features are in memory at a time.

    Args:
        teachers: Each teacher's name, and what returns its features of all examples.
        target_NK: What is to be said of each example.
        own_MH: Features of the base that is tuned, of the examples in `rows`.
        rows: Examples that the linear models are fitted to.
        temperature: T.

    Raises:
        UserInputError: Features are not finite, or the targets are the same for all examples.
    """
    varied = np.ptp(target_NK[rows], axis=0) > 0  # a class without an example says nothing of a teacher
    if not varied.any():
        raise UserInputError(f"all {len(target_NK)} examples have one label: there is nothing that teachers could tell")
    target_KM = target_NK[rows][:, varied].T
    evidence, said = [], []
    for name, compute in teachers.items():
        features_NH = compute().cpu().numpy()
        found, weights_KH = linear_models(_finite(name, features_NH[rows]), target_KM)
        evidence.append(found)
        said.append(_said(features_NH, weights_KH))
    share = np.exp((np.array(evidence) - max(evidence)) / temperature)
    share /= share.sum()
    _, own_KH = linear_models(_finite("the base", own_MH.cpu().numpy()), target_KM)
    return Teaching(
        targets=torch.from_numpy(np.tensordot(share, np.stack(said), axes=1)).float(),
        weights=torch.from_numpy(own_KH).float(), shares=dict(zip(teachers, share.tolist(), strict=True)),
    )  # fmt: skip


def _finite(name: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    try:
        return finite(features, num_examples=len(features))
    except UserInputError as error:
        raise UserInputError(f"{name}: {error}") from error


def _said(features_NH: NDArray[np.float32], weights_KH: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = [features_NH[first : first + _AT_ONCE] for first in range(0, len(features_NH), _AT_ONCE)]
    return np.concatenate([part.astype(np.float64) @ weights_KH.T for part in parts])


class BTuning(Objective):
    """Learns what several bases say of the node's own examples."""

    name: ClassVar = "b-tuning"
    summary: ClassVar = "learns what other bases say of your data, weighed by LogME: λ mean (m F(x) − y'(x))²"
    source: ClassVar = "B-Tuning (arXiv 2110.10545, section 5)"

    teachers: str = ""
    """Folders of the teachers, with commas between."""
    temperature: float = Field(default=0.1, gt=0)
    """T: the lower, the more the best teacher alone counts."""
    strength: float = Field(default=100.0, gt=0)
    """λ: strength of the penalty."""
    digests: str = ""
    """Digests of the teachers' files, with commas between, by which a run is known; they are found by themselves."""

    def settled(self) -> BTuning:
        """Return the same with the teachers' digests; equal folders and files teach equally."""
        folders = self._folders()
        if self.digests:
            return self
        return self.model_copy(update={
            "teachers": ",".join(map(str, folders)), "digests": ",".join(map(_digest, folders)),
        })  # fmt: skip

    def _folders(self) -> list[Path]:
        """Return the teachers' folders. Raises `UserInputError` if there are none, or one is no folder."""
        names = [name.strip() for name in self.teachers.split(",") if name.strip()]
        if not names:
            raise UserInputError(
                f"--objective {self.name}: no teachers; name the folder of each with --teacher FOLDER, or "
                f'{self.name}(teachers="FOLDER,FOLDER")'
            )
        if len(set(names)) < len(names):
            raise UserInputError(f"--objective {self.name}: a teacher is named twice; name each once")
        for name in names:
            if not Path(name).is_dir():
                raise UserInputError(f"--objective {self.name}: {name}: no such folder; expected a teacher's model")
            if any(mark in str(Path(name).absolute()) for mark in _UNWRITABLE):
                raise UserInputError(
                    f"--objective {self.name}: {name}: a teacher's path may have none of {' '.join(_UNWRITABLE)}; "
                    "rename it, or name it by a link"
                )
        return [Path(name).absolute() for name in names]

    def begin(self, beginning: Beginning) -> Term:
        """Ask the teachers, or take what they have said from the checkpoint."""
        if (saved := beginning.saved) is not None:
            return _Taught(saved["targets"], saved["weights"], self.strength)
        learnt = beginning.learnt
        if learnt is None:
            raise UserInputError(
                f"--objective {self.name}: it is for tasks with one head on a text's features (text-classification, "
                "multi-label-classification, regression); leave it out"
            )
        if beginning.folder is not None:
            learnt = replace(
                learnt, passing=replace(learnt.passing, cache=FeatureCache(folder=beginning.folder / _FOLDER))
            )
        folders = self._folders()
        digests = self.digests.split(",") if self.digests else [_digest(folder) for folder in folders]
        for folder, digest in zip(folders, digests, strict=True):
            if _digest(folder) != digest:
                raise UserInputError(f"{folder}: the teacher is another than when training was asked for; start again")
        teachers = {
            str(folder): lambda folder=folder, digest=digest: learnt.features(folder, digest)
            for folder, digest in zip(folders, digests, strict=True)
        }
        rows = learnt.rows()
        found = ensemble(teachers, learnt.targets, learnt.own(rows.tolist()), rows=rows, temperature=self.temperature)
        return _Taught(found.targets, found.weights, self.strength)


def _digest(folder: Path) -> str:
    return digest_of(folder)[:32]


class _Taught(Term):
    def __init__(self, targets_NK: Tensor, weights_KH: Tensor, strength: float) -> None:
        self.targets, self.weights, self.strength = targets_NK, weights_KH, strength

    def rows(self) -> Tensor:
        """Return y' of each example."""
        return self.targets

    def loss(self, features: Tensor, rows: Tensor) -> Tensor:
        """Return λ · mean (m F(x) − y'(x))² of a batch."""
        features_BH = features.float()
        self.weights = self.weights.to(features_BH.device)
        return self.strength * mse_loss(features_BH @ self.weights.T, rows.to(features_BH))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return y' and m: what was said when training began is what is learnt to its end."""
        return {"targets": self.targets, "weights": self.weights}
