"""Scores of how well features would serve a task, without any training: pure functions of features and labels.

    logme, logme_of_numbers   evidence of a Bayesian linear model (`coldfuse.training.evidence`)
    h_score                   spread between classes over spread in all, shrunk (Ibrahim et al., arXiv 2110.06893)
    transrate                 coding rate of all features, less that within classes (Huang et al., arXiv 2106.09362)
    knn_accuracy              leave-one-out accuracy of the nearest neighbours
    leep, nce                 what a model's own head says of the labels (Nguyen et al., arXiv 2002.12462; Tran et al.,
                              arXiv 1908.08142)

Higher is better for all of them. Classes are those that occur among the labels: a class without an example would count
as one that is told apart perfectly. Everything is computed in float64.

Shape letters: N examples, D features, R directions in which features differ, K classes, Z classes of the model's head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.covariance import ledoit_wolf_shrinkage

from coldfuse.errors import UserInputError
from coldfuse.training.evidence import Float64, Numbers, checked, decomposed, logme, logme_of_numbers

__all__ = ["h_score", "knn_accuracy", "leep", "logme", "logme_of_numbers", "nce", "transrate"]

_BLOCK_VALUES = 1 << 24
"""Similarities that are in memory at a time."""


def h_score(features: ArrayLike, labels: ArrayLike) -> float:
    """Return the regularised H-score: tr(Σ_α⁻¹ (1 − α) Σ_between), with Σ_α the Ledoit-Wolf covariance.

    arXiv 2110.06893, equation 4: Σ_α = (1 − α) Σ + α tr(Σ)/D · I shrinks the covariance, which few examples make
    singular; Σ_between is the covariance of each example's class mean.

    Args:
        features: Shape (N, D).
        labels: Class of each example, shape (N,).

    Raises:
        UserInputError: Features are not finite, or there are fewer than two classes or examples.
    """
    features_ND, labels_N = checked(features, labels)
    centred_ND = features_ND - features_ND.mean(axis=0)
    left_NR, singular_R = decomposed(centred_ND)
    if not len(singular_R):
        return 0.0
    alpha = float(ledoit_wolf_shrinkage(centred_ND / singular_R[0], assume_centered=True))
    num_examples, num_features = centred_ND.shape
    variance_R = singular_R**2 / num_examples
    shrunk_R = (1 - alpha) * variance_R + alpha * variance_R.sum() / num_features
    between_R = _between(left_NR, labels_N) * singular_R**2 / (num_examples - 1)
    return float((1 - alpha) * (between_R / shrunk_R).sum())


def transrate(features: ArrayLike, labels: ArrayLike, *, distortion: float = 1e-4, scaled: bool = True) -> float:
    """Return TransRate: R(Z) − mean over classes of R(Z_k), where R(Z) = ½ log det(I + ZᵀZ / nε).

    arXiv 2106.09362, as its listing computes it, on features without their mean. The listing's number grows with the
    features' scale, which says nothing of a model; so they are brought to a mean squared length of 1.

    Args:
        features: Shape (N, D).
        labels: Class of each example, shape (N,).
        distortion: ε.
        scaled: False for the listing's own number.

    Raises:
        UserInputError: Features are not finite, or there are fewer than two classes or examples.
    """
    features_ND, labels_N = checked(features, labels)
    centred_ND = features_ND - features_ND.mean(axis=0)
    length = float(np.sqrt((centred_ND**2).sum() / len(centred_ND)))
    if scaled and length > 0:
        centred_ND = centred_ND / length
    within = [_coding_rate(centred_ND[labels_N == label], distortion) for label in range(labels_N.max() + 1)]
    return _coding_rate(centred_ND, distortion) - float(np.mean(within))


def knn_accuracy(features: ArrayLike, labels: ArrayLike, *, num_neighbours: int = 5) -> float:
    """Return the share of examples whose nearest others, by cosine similarity, mostly have their class.

    Among classes with as many neighbours, the one with the more similar ones is taken. An example that is alone in its
    class cannot be got right.

    Args:
        features: Shape (N, D).
        labels: Class of each example, shape (N,).
        num_neighbours: How many others have a vote; all of them where there are fewer.

    Raises:
        UserInputError: Features are not finite, or there are fewer than two classes or examples.
    """
    features_ND, labels_N = checked(features, labels)
    largest = np.abs(features_ND).max() or 1.0
    length_N1 = np.linalg.norm(features_ND / largest, axis=1, keepdims=True)
    unit_ND = features_ND / largest / np.where(length_N1 > 0, length_N1, 1.0)
    count, num_examples = min(num_neighbours, len(unit_ND) - 1), len(unit_ND)
    num_right = 0
    for first in range(0, num_examples, block := max(1, _BLOCK_VALUES // num_examples)):
        rows = np.arange(first, min(first + block, num_examples))
        similarity_BN = unit_ND[rows] @ unit_ND.T
        similarity_BN[np.arange(len(rows)), rows] = -np.inf
        nearest_BC = np.argpartition(-similarity_BN, count - 1, axis=1)[:, :count]
        votes_BK = np.zeros((len(rows), labels_N.max() + 1))
        # A vote is worth more than all differences of similarity together.
        worth_BC = 1 + np.take_along_axis(similarity_BN, nearest_BC, axis=1) / (4 * count)
        np.add.at(votes_BK, (np.arange(len(rows))[:, None], labels_N[nearest_BC]), worth_BC)
        num_right += int((votes_BK.argmax(axis=1) == labels_N[rows]).sum())
    return num_right / num_examples


def leep(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return LEEP: the mean log of Σ_z P(y | z) θ(x)_z, with P(y | z) counted on the same examples.

    arXiv 2002.12462, equation 2. It is at most 0.

    Args:
        probabilities: What the model's own head says of each example, shape (N, Z).
        labels: Class of each example, shape (N,).

    Raises:
        UserInputError: Probabilities are negative or not finite, or there are fewer than two classes or examples.
    """
    said_NZ, labels_N = checked(probabilities, labels)
    if said_NZ.min() < 0 or not said_NZ.sum(axis=1).all():
        raise UserInputError("some probabilities are negative, or all 0: expected those of the head's classes")
    joint_KZ = np.stack([said_NZ[labels_N == label].sum(axis=0) for label in range(labels_N.max() + 1)])
    total_Z = joint_KZ.sum(axis=0)
    given_KZ = joint_KZ / np.where(total_Z > 0, total_Z, 1.0)  # what is never said has no share in any sum
    return float(np.log((said_NZ * given_KZ[labels_N]).sum(axis=1)).mean())


def nce(said: ArrayLike, labels: ArrayLike) -> float:
    """Return the negative conditional entropy −H(Y | Z) of the labels, given the class that the model's head says.

    arXiv 1908.08142, equation 4. It is at most 0.

    Args:
        said: Most likely class of the model's own head for each example, shape (N,).
        labels: Class of each example, shape (N,).

    Raises:
        UserInputError: There are fewer than two classes or examples.
    """
    said_N = np.unique(np.asarray(said), return_inverse=True)[1]
    _, labels_N = checked(np.zeros((len(said_N), 1)), labels)
    joint_KZ = np.zeros((labels_N.max() + 1, said_N.max() + 1))
    np.add.at(joint_KZ, (labels_N, said_N), 1 / len(labels_N))
    given_KZ = joint_KZ / joint_KZ.sum(axis=0)
    happens = joint_KZ > 0
    return float((joint_KZ[happens] * np.log(given_KZ[happens])).sum())


def _between(left_NR: Float64, labels_N: Numbers) -> Float64:
    """Return ‖P u‖² of each column u, where P puts each class's mean in place of its examples."""
    counts_K = np.bincount(labels_N)
    sums_KR = np.zeros((len(counts_K), left_NR.shape[1]))
    np.add.at(sums_KR, labels_N, left_NR)
    found: Float64 = (sums_KR**2 / counts_K[:, None]).sum(axis=0)
    return found


def _coding_rate(features_ND: Float64, distortion: float) -> float:
    num_examples, num_features = features_ND.shape
    small = features_ND.T @ features_ND if num_features <= num_examples else features_ND @ features_ND.T
    return 0.5 * float(np.linalg.slogdet(np.eye(len(small)) + small / (num_examples * distortion))[1])
