"""Start the private part of a task on the unchanged body, so that it pushes no noise through it.

A linear layer on hidden states is fitted to the best one there is: its linear probe. Of a deeper head, such as that of
masked language modelling, the private tensors are trained alone for a while.

Shape letters: T tokens, W windows, L tokens of the longest window, H hidden features, K outputs of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from coldfuse.errors import UserInputError
from coldfuse.training.failures import failures_of
from coldfuse.training.head import MAX_FITTING_EXAMPLES, STRENGTH, LinearHead, fit_linear_probe
from coldfuse.training.schedule import derive_seed, epoch_batches
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import run_over
from coldfuse.training.tasks.task import Feature, TaskModel

_MOST_VALUES = 1 << 26
_FITTING_STEPS = 100
_ALONE_STEPS, _ALONE_PASSES, _ALONE_BATCH, _ALONE_RATE = 200, 20, 16, 1e-3


def probe_tokens(loaded: TaskModel, features: Sequence[Feature]) -> None:
    """Make the layer on the tokens' hidden states their linear probe."""
    layer = output_layer(loaded)
    states, labels = [], []
    with _inputs_of(layer) as taken:
        for _, batch, _ in run_over(loaded, _some(features, layer, MAX_FITTING_EXAMPLES)):
            known = batch["labels"] != NO_LABEL
            states.append(taken()[known].float())
            labels.append(batch["labels"][known])
    _set(layer, fit_linear_probe(torch.cat(states), torch.cat(labels), num_classes=layer.out_features))


def probe_spans(loaded: TaskModel, features: Sequence[Feature]) -> None:
    """Make the layer the one that minimises the mean of −log p(start) − log p(end), with a penalty as every probe has.

    The problem is convex, as a start is chosen among a window's tokens by a linear score; the bias says nothing.
    """
    layer = output_layer(loaded)
    states, spans = [], []
    with _inputs_of(layer) as taken:
        for _, batch, _ in run_over(loaded, _some(features, layer, MAX_FITTING_EXAMPLES)):
            states += [row[mask.bool()].float() for row, mask in zip(taken(), batch["attention_mask"], strict=True)]
            spans.append(torch.stack([batch["start_positions"], batch["end_positions"]], dim=1))
    every_TH, span_W2 = torch.cat(states), torch.cat(spans)
    mean_H, scale_H = every_TH.mean(dim=0), every_TH.std(dim=0, correction=0).clamp(min=1e-7)
    hidden_WLH = nn.utils.rnn.pad_sequence([(state - mean_H) / scale_H for state in states], batch_first=True)
    lengths_W = torch.tensor([len(state) for state in states], device=span_W2.device)
    outside_WL = torch.arange(hidden_WLH.shape[1], device=span_W2.device) >= lengths_W[:, None]
    weight_2H = torch.zeros(2, hidden_WLH.shape[2], device=span_W2.device, requires_grad=True)

    def objective() -> Tensor:
        logits_WL2 = (hidden_WLH @ weight_2H.T).masked_fill(outside_WL[:, :, None], float("-inf"))
        loss = cross_entropy(logits_WL2, span_W2) * 2
        return loss + weight_2H.square().sum() / (2 * STRENGTH * len(span_W2))

    _minimise(objective, weight_2H)
    weight_2H = (weight_2H / scale_H).detach()
    _set(layer, LinearHead(weight=weight_2H, bias=torch.zeros(2, device=weight_2H.device)))


def _minimise(objective: Callable[[], Tensor], weight: Tensor) -> None:
    optimizer = torch.optim.LBFGS([weight], max_iter=_FITTING_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]


def output_layer(loaded: TaskModel) -> nn.Linear:
    """Return the linear layer that a task's model ends in, outside of its body."""
    body = {id(module) for module in loaded.shared_part.modules()}
    outside = [module for module in loaded.model.modules() if isinstance(module, nn.Linear) and id(module) not in body]
    if not outside:
        raise UserInputError(
            f"{type(loaded.model).__name__} has no linear layer on its body for this task; take a base such as BERT"
        )
    return outside[-1]


class _inputs_of:  # noqa: N801 - a context
    """Keep what a layer is given, for as long as the context lasts."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer, self._last = layer, torch.empty(0)

    def __enter__(self) -> Callable[[], Tensor]:
        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._last = inputs[0]

        self._hook = self._layer.register_forward_pre_hook(note)
        return lambda: self._last

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def _some(features: Sequence[Feature], layer: nn.Linear, most: int) -> list[Feature]:
    """Return features at random, as many as there is memory for their hidden states."""
    generator = torch.Generator().manual_seed(derive_seed("probe", len(features)))
    budget = _MOST_VALUES // layer.in_features
    chosen: list[Feature] = []
    for index in torch.randperm(len(features), generator=generator)[:most].tolist():
        length: Any = features[index]["length"]
        if budget < length and chosen:
            break
        budget -= length
        chosen.append(features[index])
    return chosen


@torch.no_grad()
def _set(layer: nn.Linear, head: LinearHead) -> None:
    layer.weight.copy_(head.weight)
    if layer.bias is not None:
        layer.bias.copy_(head.bias)


def train_alone(loaded: TaskModel, features: Sequence[Feature]) -> None:
    """Train the private parameters of a language model alone, without dropout; all others stay as they are.

    Most models have none: then nothing is done.

    Args:
        loaded: The model; its processor says which parameters the base's files lack.
        features: What it learns from: some steps of passes over them.
    """
    model = loaded.model
    own = dict(model.named_parameters())
    wanted, frozen = [own[name] for name in loaded.processor.private], []
    if not wanted or not features:
        return
    for parameter in own.values():
        frozen.append((parameter, parameter.requires_grad))
        parameter.requires_grad_(False)
    for parameter in wanted:
        parameter.requires_grad_()
    was_training = model.training
    model.eval()
    try:
        _steps(loaded, features, torch.optim.AdamW(wanted, lr=_ALONE_RATE, weight_decay=0.0))
    finally:
        model.train(was_training)
        for parameter, before in frozen:
            parameter.requires_grad_(before)
            parameter.grad = None


@torch.enable_grad()
def _steps(loaded: TaskModel, features: Sequence[Feature], optimizer: torch.optim.Optimizer) -> None:
    lengths: list[Any] = [feature["length"] for feature in features]
    device = next(loaded.model.parameters()).device
    orders = (
        epoch_batches(lengths, batch_size=_ALONE_BATCH, seed=derive_seed("alone", number))
        for number in range(_ALONE_PASSES)
    )
    for indices in islice(chain.from_iterable(orders), _ALONE_STEPS):
        batch = {name: rows.to(device) for name, rows in loaded.collate([features[i] for i in indices]).items()}
        with failures_of(loaded.model, f"training its head on {len(indices)} examples"):
            loaded.model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
