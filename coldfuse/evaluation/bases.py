"""Score several models as bases for a task: features once a model, then every score on every draw of examples.

One model is in memory at a time, and of the texts only those that some draw takes pass through it.

Shape letters: N examples, H features, Z classes of a head.
"""
# ruff: noqa: N815 - the names of tensors end in their shape

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer  # noqa: F401 - here, so that loading them is no model's cost

from coldfuse.data.dataset import TextDataset, halves
from coldfuse.errors import UserInputError
from coldfuse.evaluation import transferability as scores
from coldfuse.evaluation.own_heads import probabilities
from coldfuse.evaluation.ranking import (
    FOR_NUMBERS,
    SCORES,
    RankedModel,
    Ranking,
    Score,
    agreement,
    draw,
    ordered,
    scored,
)
from coldfuse.training.compute import compute_threads, to_device
from coldfuse.training.encoding import TokenizedTexts, encode_all, tokenize
from coldfuse.training.head import fit_linear_probe
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.tasks.targets import TextsWithTargets

Data = TextDataset | TextsWithTargets
"""Labelled texts: classes, or one number each."""


_FEW = 5
"""Examples a feature below which covariances are mostly chance."""


@dataclass(frozen=True, kw_only=True)
class RankSettings:
    """What decides the scores beside models and data."""

    names: tuple[str, ...] = ()
    """Scores that are wanted; none for all that the data allow."""
    num_examples: int = 1000
    """Examples of a draw, at most."""
    seeds: tuple[int, ...] = (0,)
    """One draw for each."""
    num_neighbours: int = 5
    """Neighbours that have a vote in `knn`."""
    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    threads: int | None = None
    """Processor threads; unset leaves torch's choice."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto` for a GPU where there is one."""


@dataclass(frozen=True)
class _Drawn:
    """Data of which draws are taken."""

    data: Data
    """All that some draw takes."""
    draws: Sequence[NDArray[np.int64]]
    """Of each seed the examples, by their place in `data`."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a model makes of the data."""

    features_NH: Tensor
    proxy_NH: Tensor | None
    said_NZ: Tensor | str
    """What its own head says, or why it has none."""


def rank_bases(
    models: Mapping[str, Path],
    data: Data,
    settings: RankSettings,
    *,
    proxy: TextDataset | None = None,
    on_model: Callable[[str], None] = lambda _: None,
) -> Ranking:
    """Score models as bases for a task, without training them.

    Args:
        models: Folders of the models, by the names that the user has for them.
        data: Labelled examples of the task.
        settings: What else decides the scores.
        proxy: Labelled examples of another task, general enough to tell good bases from bad ones (the rule of
            intertraining, arXiv 2211.00107): their linear probe is the score `proxy`.
        on_model: Called with each model's name before it is loaded.

    Raises:
        UserInputError: A model cannot be loaded or makes features that are not finite, or the data cannot be scored by.
    """
    wanted = wanted_scores(settings.names, is_numbers=isinstance(data, TextsWithTargets), has_proxy=proxy is not None)
    drawn = _drawn(data, settings)
    drawn_proxy = None if proxy is None else _drawn(proxy, settings)
    with compute_threads(settings.threads):
        ranked = []
        for name, folder in models.items():
            on_model(name)
            ranked.append(_rank(name, folder, drawn, drawn_proxy, (settings, wanted)))
    found = ordered(ranked)
    return Ranking(
        models=found,
        agreement=agreement(found),
        needs={name: SCORES[name] for name in wanted},
        num_examples=len(drawn.draws[0]),
        num_classes=data.num_classes if isinstance(data, TextDataset) else None,
        seeds=settings.seeds,
        notes=_notes(data, drawn, found),
    )


def wanted_scores(names: Sequence[str], *, is_numbers: bool, has_proxy: bool) -> tuple[str, ...]:
    """Return the scores that are to be computed, in the order of `SCORES`.

    Raises:
        UserInputError: There is no such score, or the data do not allow it.
    """
    possible = FOR_NUMBERS if is_numbers else tuple(name for name in SCORES if name != "proxy")
    possible = (*possible, "proxy") if has_proxy else possible
    for name in names:
        if name not in SCORES:
            raise UserInputError(f"score {name!r} is not known; expected one of {', '.join(SCORES)}")
        if name not in possible:
            why = "it needs --proxy FILE" if name == "proxy" else "it is for classes, and the labels are numbers"
            raise UserInputError(f"score {name!r}: {why}")
    return tuple(name for name in SCORES if name in (names or possible))


def _drawn(data: Data, settings: RankSettings) -> _Drawn:
    labels: Sequence[object] = data.labels if isinstance(data, TextDataset) else [0] * len(data)
    draws = [draw(labels, settings.num_examples, seed=seed) for seed in settings.seeds]
    taken = sorted(set().union(*draws))
    place = {index: number for number, index in enumerate(taken)}
    return _Drawn(data.take(taken), [np.array([place[index] for index in each]) for each in draws])


def _rank(
    name: str, folder: Path, drawn: _Drawn, proxy: _Drawn | None, how: tuple[RankSettings, tuple[str, ...]]
) -> RankedModel:
    settings, wanted = how
    began_s = time.monotonic()
    try:
        body = to_device(load_body(folder), settings.device)
        tokenizer = load_tokenizer(folder)
        intake = find_intake(body, tokenizer, max_length=settings.max_length)
        texts = tokenize(tokenizer, drawn.data, intake)
        features_NH = _features(body, texts)
        proxy_NH = None if proxy is None else _features(body, tokenize(tokenizer, proxy.data, intake))
    except UserInputError as error:
        raise error if str(folder) in str(error) else UserInputError(f"{name}: {error}") from error
    passed_s = time.monotonic()
    asks_head = not {"leep", "nce"}.isdisjoint(wanted)
    said_NZ = probabilities(folder, features_NH, texts) if asks_head else "not asked for"
    head_s = time.monotonic() - passed_s if isinstance(said_NZ, Tensor) else 0.0
    seen = _Seen(features_NH=features_NH.cpu(), proxy_NH=proxy_NH, said_NZ=said_NZ)
    return RankedModel(
        model=name, place=None, num_features=features_NH.shape[1],
        num_parameters=sum(parameter.numel() for parameter in body.parameters()),
        body_seconds=passed_s - began_s, head_seconds=head_s,
        scores=tuple(_score(each, seen, drawn, proxy, settings) for each in wanted),
    )  # fmt: skip


def _features(body: nn.Module, texts: TokenizedTexts) -> Tensor:
    features_NH = encode_all(body, texts)
    if bad := int((~features_NH.isfinite()).any(dim=1).sum()):
        raise UserInputError(
            f"its features of {bad} of {len(texts)} texts are not finite: its weights are broken, or too large for the "
            "dtype that it computes in"
        )
    return features_NH


def _score(name: str, seen: _Seen, drawn: _Drawn, proxy: _Drawn | None, settings: RankSettings) -> Score:
    if name in ("leep", "nce") and isinstance(seen.said_NZ, str):
        return Score(name=name, why_not=seen.said_NZ[:2000])
    began_s = time.monotonic()
    source = proxy if name == "proxy" and proxy is not None else drawn
    try:
        values = [_value(name, seen, source.data.take(list(map(int, each))), each, settings) for each in source.draws]
    except UserInputError as error:
        return Score(name=name, why_not=str(error)[:2000])
    return scored(name, values, seconds=time.monotonic() - began_s)


def _value(name: str, seen: _Seen, data: Any, rows: NDArray[np.int64], settings: RankSettings) -> float:
    """Return one score on one draw; `rows` are the draw's rows of what was seen."""
    if isinstance(data, TextsWithTargets):
        return scores.logme_of_numbers(seen.features_NH[rows].numpy(), data.targets)
    labels = data.labels
    if name == "proxy" and seen.proxy_NH is not None:
        return _probe(seen.proxy_NH[rows], data)
    if name in ("leep", "nce") and isinstance(seen.said_NZ, Tensor):
        said_NZ = seen.said_NZ[rows].cpu().numpy()
        return scores.leep(said_NZ, labels) if name == "leep" else scores.nce(said_NZ.argmax(axis=1), labels)
    features_NH = seen.features_NH[rows]
    match name:
        case "logme":
            return scores.logme(features_NH.numpy(), labels)
        case "h-score":
            return scores.h_score(features_NH.numpy(), labels)
        case "transrate":
            return scores.transrate(features_NH.numpy(), labels)
        case "knn":
            return scores.knn_accuracy(features_NH.numpy(), labels, num_neighbours=settings.num_neighbours)
    return _probe(features_NH, data)


def _probe(features_NH: Tensor, data: TextDataset) -> float:
    """Fit a linear probe on half of each class and return its accuracy on the other half."""
    if len(set(data.labels)) < 2:
        raise UserInputError(f"all {len(data)} examples have one class, expected two or more to tell apart")
    numbers = TextDataset(texts=tuple(map(str, range(len(data)))), labels=data.labels, label_names=data.label_names)
    fitted, tested = ([int(text) for text in half.texts] for half in halves(numbers))
    label_N = torch.tensor(data.labels, device=features_NH.device)
    head = fit_linear_probe(features_NH[fitted], label_N[fitted], num_classes=data.num_classes)
    return head.accuracy(features_NH[tested], label_N[tested])


def _notes(data: Data, drawn: _Drawn, models: Sequence[RankedModel]) -> tuple[str, ...]:
    notes = []
    if isinstance(data, TextDataset) and isinstance(drawn.data, TextDataset):
        counts = np.bincount(np.array(drawn.data.labels), minlength=data.num_classes)
        if lonely := int((counts == 1).sum()):
            notes.append(f"{lonely} of {data.num_classes} classes have one example: knn and probe cannot get it right")
        if missing := int((counts == 0).sum()):
            notes.append(f"{missing} of {data.num_classes} classes have no example, and count for nothing")
    most = max(model.num_features for model in models)
    if len(drawn.draws[0]) < _FEW * most:
        notes.append(
            f"{len(drawn.draws[0])} examples for {most} features: transrate, and h-score, tell little of so few"
        )
    return tuple(notes)
