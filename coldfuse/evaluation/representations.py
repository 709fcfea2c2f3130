"""What every layer of several models makes of the same texts, and how alike that is.

One model is in memory at a time. Its hidden states, averaged over each text's tokens, go to a scratch file a layer; CKA
is then summed over batches of texts, for all layers of all models at once, and what needs a layer whole reads two.

Shape letters: N texts, B of them in a batch, L tokens, H hidden features, S layers of all models together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.evaluation.likeness import LayerPair, RepresentationPair
from coldfuse.evaluation.similarity import FEWEST, aligned, procrustes, products, pwcca, svcca
from coldfuse.training.compute import compute_threads, native_autocast, to_device
from coldfuse.training.encoding import Texts, TokenizedTexts, run, tokenize
from coldfuse.training.failures import ModelFailedError
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer

Layer = NDArray[np.float32]
"""What a layer makes of the texts, shape (N, H); it lies in a file."""

_BATCH = 256
"""Texts between which kernels are compared; their matrices take S · B² numbers."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How texts pass through the models."""

    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    batch_size: int = 64
    """Texts that pass through a model at once."""
    threads: int | None = None
    """Processor threads; unset leaves torch's choice."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto` for a GPU where there is one."""


def compare_representations(
    models: Mapping[str, Path],
    texts: Texts,
    settings: RunSettings,
    *,
    scratch: Path,
    on_model: Callable[[str], None] = lambda _: None,
) -> tuple[RepresentationPair, ...]:
    """Compare models by their hidden states, each with each.

    Args:
        models: Folders of the models, by the names that the user has for them.
        texts: The texts; four or more.
        settings: How they pass through.
        scratch: An empty folder for the hidden states: 4 · N · H bytes a layer.
        on_model: Called with each model's name before it is loaded.

    Raises:
        UserInputError: A model cannot be loaded, or makes features that are not finite; or there are too few texts.
    """
    if len(texts.texts) < FEWEST:
        raise UserInputError(f"{plural(len(texts.texts), 'text')}, expected {FEWEST} or more")
    layers: dict[str, list[Layer]] = {}
    with compute_threads(settings.threads):
        for number, (name, folder) in enumerate(models.items()):
            on_model(name)
            place = scratch / str(number)
            place.mkdir()
            try:
                layers[name] = hidden_layers(folder, texts, settings, scratch=place)
            except UserInputError as error:
                raise error if str(folder) in str(error) else UserInputError(f"{name}: {error}") from error
    return _pairs(layers)


def hidden_layers(folder: Path, texts: Texts, settings: RunSettings, *, scratch: Path) -> list[Layer]:
    """Return what each layer of a model makes of the texts; the first is what its embeddings give.

    Args:
        folder: The model's folder.
        texts: The texts.
        settings: How they pass through.
        scratch: Folder for one file a layer.

    Raises:
        UserInputError: It cannot be loaded, or a layer's features are not finite.
    """
    body: Any = to_device(load_body(folder), settings.device)
    tokenizer = load_tokenizer(folder)
    intake = find_intake(body, tokenizer, max_length=settings.max_length)
    tokens = tokenize(tokenizer, texts, intake)
    body.config.output_hidden_states = True
    body.eval()
    device = next(body.parameters()).device
    order = sorted(range(len(tokens)), key=tokens.lengths.__getitem__, reverse=True)  # what needs most memory first
    layers: list[Layer] = []
    for first in range(0, len(order), settings.batch_size):
        rows = order[first : first + settings.batch_size]
        for number, pooled_BH in enumerate(_pooled(body, tokens, rows, device)):
            if number == len(layers):
                shape = len(tokens), pooled_BH.shape[1]
                layers.append(np.memmap(scratch / f"{number}.f32", np.float32, "w+", shape=shape))
            if not pooled_BH.isfinite().all():
                raise UserInputError(f"layer {number}: features that are not finite: the model's weights are broken")
            layers[number][rows] = pooled_BH.cpu().numpy()
    return layers


@torch.no_grad()
def _pooled(body: nn.Module, tokens: TokenizedTexts, rows: Sequence[int], device: torch.device) -> list[Tensor]:
    """Return each layer's mean over the tokens of each text of a batch, shape (B, H)."""
    batch = tokens.batch(rows, device)
    with native_autocast(device):
        output = run(body, batch)
    states = getattr(output, "hidden_states", None) or (output[0],)  # a body that tells of its last layer alone
    mask_BL1 = batch["attention_mask"].unsqueeze(-1).float()
    return [_mean_over_tokens(state.float(), mask_BL1) for state in states]


def _mean_over_tokens(state_BLH: Tensor, mask_BL1: Tensor) -> Tensor:
    num_texts, num_tokens, _ = mask_BL1.shape
    if state_BLH.dim() != 3 or len(state_BLH) != num_texts:
        raise ModelFailedError(f"a layer gives {list(state_BLH.shape)} numbers, no hidden state of each token")
    if state_BLH.shape[1] < num_tokens:  # a body that pools as it goes: no token is left to be masked
        return state_BLH.mean(dim=1)
    own_BLH = state_BLH[:, :num_tokens]  # some fill texts up to the windows that they read
    return (own_BLH * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1).clamp(min=1.0)


def _pairs(layers: Mapping[str, Sequence[Layer]]) -> tuple[RepresentationPair, ...]:
    every = [layer for own in layers.values() for layer in own]
    starts = dict(zip(layers, np.cumsum([0, *map(len, layers.values())]), strict=False))
    cka_SS = aligned(_summed(every))
    found = []
    for one, other in combinations(layers, 2):
        rows, columns = (range(starts[name], starts[name] + len(layers[name])) for name in (one, other))
        cka = tuple(tuple(cka_SS[row][column] for column in columns) for row in rows)
        pairs = tuple(
            _layer_pair(first, second, layers[one][first], layers[other][second], cka[first][second])
            for first, second in counterparts(len(rows), len(columns))
        )
        found.append(RepresentationPair(one=one, other=other, layers=pairs, cka=cka))
    return tuple(found)


def _summed(layers: Sequence[Layer]) -> NDArray[np.float64]:
    """Add up the products of all layers over batches of about the same size."""
    num_texts = len(layers[0])
    batches = np.array_split(np.arange(num_texts), -(-num_texts // _BATCH))
    summed: NDArray[np.float64] = np.sum([products([layer[batch] for layer in layers]) for batch in batches], axis=0)
    return summed


def counterparts(one: int, other: int) -> list[tuple[int, int]]:
    """Return which layers of two models are compared: each of the deeper with the one at the same share of the depth.

    >>> counterparts(3, 3), counterparts(3, 5), counterparts(1, 2)
    ([(0, 0), (1, 1), (2, 2)], [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4)], [(0, 0), (0, 1)])

    Args:
        one: Layers of the first model.
        other: Layers of the second.
    """
    deeper, flatter = max(one, other), min(one, other)
    pairs = [(round(layer * (flatter - 1) / max(deeper - 1, 1)), layer) for layer in range(deeper)]
    return pairs if other >= one else [(layer, place) for place, layer in pairs]


def _layer_pair(first: int, second: int, x_NH: Layer, y_NH: Layer, cka: float | None) -> LayerPair:
    return LayerPair(
        one=first, other=second, cka=cka, svcca=svcca(x_NH, y_NH), pwcca=pwcca(x_NH, y_NH),
        procrustes=procrustes(x_NH, y_NH),
    )  # fmt: skip
