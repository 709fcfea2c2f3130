"""What private data say of a fine-tuned body: Fisher information of its weights, Gram matrices of its layers' inputs.

    F = E_x Σ_y p(y|x) (∂ log p(y|x) / ∂θ)²       exact (arXiv 2111.09832, equation 4)
    F = E_(x,y) (∂ log p(y|x) / ∂θ)²              empirical, y the label
    G = E_tokens x xᵀ                             a linear layer's inputs (arXiv 2212.09849, section 3)

Gradients are squared example by example. The square of a batch's gradient would be something else, with the products of
different examples in it; so would an expectation over y inside the square, which is zero.

Shape letters: N examples, K classes, B texts of a batch, L tokens, I input features of a layer, T rows of inputs.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coldfuse.training.encoding import TokenizedTexts, encode, run
from coldfuse.training.head import LinearHead
from coldfuse.training.model import stored_parameters
from coldfuse.training.schedule import derive_seed

Estimator = Literal["exact", "empirical"]

GRAM_BATCH = 16
"""Number of texts that pass at a time while Gram matrices are summed."""


def choose(count: int, num_examples: int | None, *, seed: int = 0) -> list[int]:
    """Return which of `count` examples are looked at: all, or that many at random, in their order.

    >>> choose(3, None), len(choose(1000, 256))
    ([0, 1, 2], 256)
    """
    if num_examples is None or num_examples >= count:
        return list(range(count))
    order = random.Random(derive_seed(seed, "statistics"))  # noqa: S311 - a sample, not a secret
    return sorted(order.sample(range(count), num_examples))


def diagonal_fisher(
    body: nn.Module,
    head: LinearHead,
    texts: TokenizedTexts,
    labels: Sequence[int],
    *,
    estimator: Estimator = "exact",
) -> dict[str, Tensor]:
    """Return the diagonal Fisher information of the body's trainable parameters by name, float32.

    One pass forward for each text; backward, one for each class but the last (exact), or one in all (empirical).
    """
    device = next(body.parameters()).device

    def outputs() -> Iterator[tuple[Tensor, Iterable[Tensor]]]:
        for index, label in enumerate(labels):
            features_1H = encode(body, texts.batch([index], device))
            logits_K = (features_1H @ head.weight.T + head.bias)[0]
            yield logits_K, directions_of(logits_K.detach(), label, estimator)

    return mean_squares(body, outputs())


def mean_squares(
    model: nn.Module, outputs: Iterable[tuple[Tensor, Iterable[Tensor]]], *, names: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Return the mean of Σ_s (Jᵀs)² over examples of each parameter by name, float32; J = ∂ output / ∂θ.

    Args:
        model: The model, which is put to evaluation meanwhile.
        outputs: Makes the output of one example after the other, with its directions s; each is a pass backward.
        names: Names of the parameters that are looked at; None for all that are trained.
    """
    count = 0
    with evaluating(model), _sparse_embeddings(model), torch.enable_grad(), _squares_summed(model, names) as sums:
        for output, directions in outputs:
            for direction in directions:
                output.backward(direction, retain_graph=True)  # type: ignore[no-untyped-call]
            count += 1
    return {name: total / max(count, 1) for name, total in sums.items()}


def directions_of(logits_K: Tensor, label: int, estimator: Estimator) -> Tensor:
    """Return the rows s of a matrix S whose Σ_s (Jᵀs)² is one example's Fisher information; J = ∂ logits / ∂θ.

    ∂ log p_y = Jᵀ(e_y − p), so the exact one is the diagonal of Jᵀ(Σ_y p_y (e_y − p)(e_y − p)ᵀ)J = Jᵀ(diag p − ppᵀ)J.
    Any SᵀS = diag p − ppᵀ will do; its rank is K − 1, and its eigenvectors spare one pass backward of K.
    """
    p_K = logits_K.double().softmax(dim=0).cpu()
    if estimator == "empirical":
        directions = -p_K[None]
        directions[0, label] += 1
    else:
        eigenvalues_K, eigenvectors_KK = torch.linalg.eigh(p_K.diag() - p_K.outer(p_K))
        directions = (eigenvectors_KK * eigenvalues_K.clamp(min=0).sqrt()).T[1:]  # ascending; the first is zero
    return directions.to(logits_K)


@contextmanager
def _squares_summed(body: nn.Module, names: Collection[str] | None) -> Iterator[dict[str, Tensor]]:
    """Sum the square of each gradient as soon as it is there, and drop it: all of them would be a second model."""
    sums: dict[str, Tensor] = {}

    def add_square(parameter: Tensor, name: str) -> None:
        gradient, parameter.grad = parameter.grad, None
        if gradient is not None and gradient.is_sparse:
            rows = gradient.coalesce()  # the occurrences of one word are summed before they are squared
            sums[name].index_add_(0, rows.indices()[0], rows.values().float().square())
        elif gradient is not None:
            sums[name].addcmul_(gradient.float(), gradient.float())

    with ExitStack() as stack:
        for name, parameter in body.named_parameters():
            if parameter.requires_grad and names is not None and name not in names:
                parameter.requires_grad_(False)
                stack.callback(parameter.requires_grad_, True)
            if parameter.requires_grad:
                parameter.grad = None
                sums[name] = torch.zeros_like(parameter, dtype=torch.float32)
                handle = parameter.register_post_accumulate_grad_hook(partial(add_square, name=name))  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
        yield sums


def input_grams(
    body: nn.Module, texts: TokenizedTexts, *, include_padding: bool = False
) -> tuple[dict[str, Tensor], int]:
    """Return the mean of x xᵀ of every linear layer's inputs by the weight's name, float32, and the number of tokens.

    Sums are made in float64, over the tokens of all texts; a layer that sees one vector a text (a pooler) has its mean
    over these. `include_padding` counts the positions behind the shorter texts of a batch as well, as RegMean's own
    code does: then the result depends on what is batched with what.
    """
    device = next(body.parameters()).device
    order = list(range(len(texts))) if include_padding else sorted(range(len(texts)), key=texts.lengths.__getitem__)
    sums = GramSums()
    num_tokens = 0
    with evaluating(body), sums.gathered_from(body), torch.no_grad():
        for start in range(0, len(order), GRAM_BATCH):
            batch = texts.batch(order[start : start + GRAM_BATCH], device)
            mask_BL = batch["attention_mask"].bool()
            sums.counted_BL = torch.ones_like(mask_BL) if include_padding else mask_BL
            num_tokens += int(sums.counted_BL.sum())
            run(body, batch)
    return sums.means(), num_tokens


class GramSums:
    """Σ x xᵀ and the number of x of each linear layer, gathered by hooks while a model runs."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        """Take the names of the weights whose layers are looked at; None for all."""
        self._names = names
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.counted_BL: Tensor = torch.empty(0)
        """Which positions of a batch count; inputs of another shape count in full."""
        self._last: tuple[Tensor, Tensor, int] | None = None

    def means(self) -> dict[str, Tensor]:
        """Return the mean of x xᵀ by the weight's name, float32."""
        return {name: (total / max(self.counts[name], 1)).float() for name, total in self.totals.items()}

    @contextmanager
    def gathered_from(self, body: nn.Module) -> Iterator[None]:
        """Gather from every pass through the body."""
        names = {id(parameter): name for name, parameter in body.named_parameters()}  # tied weights have one name
        with ExitStack() as stack:
            for module in body.modules():
                name = names.get(id(module.weight)) if isinstance(module, nn.Linear) else None
                if name is not None and (self._names is None or name in self._names):
                    handle = module.register_forward_pre_hook(self._hook(name))
                    stack.callback(handle.remove)
            yield
        self._last = None

    def _hook(self, name: str) -> Callable[[nn.Module, Any], None]:
        def add(_: nn.Module, inputs: Any) -> None:
            product_II, count = self._product(inputs[0])
            self.totals[name] = self.totals[name] + product_II if name in self.totals else product_II
            self.counts[name] = self.counts.get(name, 0) + count

        return add

    def _product(self, inputs: Tensor) -> tuple[Tensor, int]:
        """Return Σ x xᵀ and the number of x; query, key and value share their inputs, and so the product."""
        if self._last is None or self._last[0] is not inputs:
            has_tokens = inputs.dim() > 2 and inputs.shape[:2] == self.counted_BL.shape
            rows_TI = (inputs[self.counted_BL] if has_tokens else inputs).flatten(0, -2).double()
            self._last = (inputs, rows_TI.T @ rows_TI, len(rows_TI))
        return self._last[1:]


def by_stored_name(body: nn.Module, values: Mapping[str, Tensor], schema_names: Collection[str]) -> dict[str, Tensor]:
    """Give each value the name that the model's files have for its parameter; what the files lack is left out."""
    names = stored_parameters(body, schema_names)
    return {stored: values[own] for own, stored in names.items() if own in values}


@contextmanager
def evaluating(body: nn.Module) -> Iterator[None]:
    """Run the body without dropout, and leave it as it was."""
    was_training = body.training
    body.eval()
    try:
        yield
    finally:
        body.train(was_training)


@contextmanager
def _sparse_embeddings(body: nn.Module) -> Iterator[None]:
    """Have gradients of embeddings hold a text's words alone: half of a small model is its vocabulary."""
    uses = Counter(id(p) for module in body.modules() for p in module.parameters(recurse=False))
    dense = [
        module
        for module in body.modules()
        if isinstance(module, nn.Embedding)
        and not module.sparse
        and uses[id(module.weight)] == 1  # a tied one is dense
    ]
    for module in dense:
        module.sparse = True
    try:
        yield
    finally:
        for module in dense:
            module.sparse = False
