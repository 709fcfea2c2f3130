"""Start the private part of a task on the unchanged body, so that it pushes no noise through it.

A linear layer on hidden states is fitted to the best one there is: its linear probe. Of a deeper head, such as that of
masked language modelling, the private tensors are trained alone for a while.

Shape letters: T tokens, W windows, L tokens of the longest window, H hidden features, K outputs of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from coldfuse.training.head import MAX_FITTING_EXAMPLES, STRENGTH, LinearHead, fit_linear_probe
from coldfuse.training.schedule import derive_seed
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import run_over
from coldfuse.training.tasks.task import Feature, TaskModel

_MOST_VALUES = 1 << 26
_FITTING_STEPS = 100


def probe_tokens(loaded: TaskModel, features: Sequence[Feature], *, num_tags: int) -> None:
    """Make the layer on the tokens' hidden states their linear probe; a head of another kind starts at random."""
    layer = output_layer(loaded, num_tags)
    if layer is None:
        return
    states, labels = [], []
    with inputs_of(layer) as taken:
        for _, batch, _ in run_over(loaded, some_features(features, layer.in_features, MAX_FITTING_EXAMPLES)):
            known = batch["labels"] != NO_LABEL
            states.append(taken()[known].float())
            labels.append(batch["labels"][known])
    _set(layer, fit_linear_probe(torch.cat(states), torch.cat(labels), num_classes=layer.out_features))


def probe_spans(loaded: TaskModel, features: Sequence[Feature]) -> None:
    """Make the layer the one that minimises the mean of −log p(start) − log p(end), with a penalty as every probe has.

    The problem is convex, as a start is chosen among a window's tokens by a linear score; the bias says nothing.
    """
    layer = output_layer(loaded, 2)
    if layer is None:
        return
    states, spans = [], []
    with inputs_of(layer) as taken:
        for _, batch, _ in run_over(loaded, some_features(features, layer.in_features, MAX_FITTING_EXAMPLES)):
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


def output_layer(loaded: TaskModel, num_outputs: int) -> nn.Linear | None:
    """Return the linear layer that a task's model ends in, outside of its body; None for a head of another kind."""
    body = {id(module) for module in loaded.shared_part.modules()}
    outside = [module for module in loaded.model.modules() if isinstance(module, nn.Linear) and id(module) not in body]
    return next((layer for layer in reversed(outside) if layer.out_features == num_outputs), None)


class inputs_of:  # noqa: N801 - a context
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


def some_features(features: Sequence[Feature], num_values: int, most: int) -> list[Feature]:
    """Return features at random, as many as there is memory for their hidden states."""
    generator = torch.Generator().manual_seed(derive_seed("probe", len(features)))
    budget = _MOST_VALUES // num_values
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
