"""Fisher information and Gram matrices of a small BERT against autograd in the plainest loops."""

import pytest
import torch
from tiny_model import write_tiny_model
from torch import nn
from torch.nn.functional import log_softmax

from coldfuse.training.encoding import TokenizedTexts, encode
from coldfuse.training.estimators import diagonal_fisher, input_grams
from coldfuse.training.head import LinearHead
from coldfuse.training.loading import load_body

TEXTS = TokenizedTexts(
    input_ids=[[2, 5, 9, 3], [2, 5, 5, 5, 7, 11, 3], [2, 3], [2, 8, 3]], token_type_ids=None, pad_token_id=0
)
LABELS = [2, 0, 1, 1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    torch.manual_seed(0)
    return load_body(write_tiny_model(tmp_path_factory.mktemp("model"), hidden_size=16))


@pytest.fixture(scope="module")
def head():
    generator = torch.Generator().manual_seed(1)
    return LinearHead(weight=torch.randn(3, 16, generator=generator), bias=torch.randn(3, generator=generator))


def naive_fisher(body, head, classes_of):
    """Square the gradient of log p(y|x) for every example and each of its weighted classes, one at a time."""
    body.eval()
    total = {name: torch.zeros_like(parameter) for name, parameter in body.named_parameters()}
    for index in range(len(TEXTS)):
        for label, weight in classes_of(index, naive_scores(body, head, index).detach().exp()):
            body.zero_grad()
            naive_scores(body, head, index)[label].backward()
            for name, parameter in body.named_parameters():
                if parameter.grad is not None:
                    total[name] += weight * parameter.grad**2 / len(TEXTS)
    body.zero_grad()
    return total


def naive_scores(body, head, index):
    logits = encode(body, TEXTS.batch([index], CPU)) @ head.weight.T + head.bias
    return log_softmax(logits[0], dim=0)


def assert_close(got, want):
    assert got.keys() == want.keys()
    assert sum(bool(tensor.any()) for tensor in want.values()) > 30
    noise = 1e-20 * max(float(tensor.max()) for tensor in want.values())
    """Squares of what rounding leaves of a gradient that is zero: a key's bias moves all scores of a softmax alike."""
    for name, tensor in want.items():
        torch.testing.assert_close(got[name], tensor, rtol=2e-4, atol=1e-6 * float(tensor.max()) + noise, msg=name)


def test_the_exact_fisher_squares_each_examples_gradient_of_each_class(body, head):
    want = naive_fisher(body, head, lambda index, p: enumerate(p))
    assert_close(diagonal_fisher(body, head, TEXTS, LABELS), want)


def test_the_empirical_fisher_takes_the_label_alone(body, head):
    want = naive_fisher(body, head, lambda index, p: [(LABELS[index], 1.0)])
    assert_close(diagonal_fisher(body, head, TEXTS, LABELS, estimator="empirical"), want)


def test_the_body_is_left_as_it_was(body, head):
    body.train()
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    diagonal_fisher(body, head, TEXTS, LABELS)
    input_grams(body, TEXTS)
    assert body.training
    assert all(torch.equal(before[name], tensor) for name, tensor in body.state_dict().items())
    assert not any(module.sparse for module in body.modules() if isinstance(module, nn.Embedding))
    assert not any(module._forward_pre_hooks for module in body.modules())
    assert all(parameter.grad is None for parameter in body.parameters())


def naive_grams(body, *, include_padding):
    """Record every linear layer's inputs in one batch, and sum the outer products position by position."""
    seen, handles = {}, []
    for name, module in body.named_modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]})))
    batch = TEXTS.batch(range(len(TEXTS)), CPU)
    body.eval()
    with torch.no_grad():
        body(**batch)
    for handle in handles:
        handle.remove()
    grams = {}
    for name, inputs in seen.items():
        if inputs.dim() == 2:  # the pooler's
            vectors = list(inputs.double())
        else:
            kept = batch["attention_mask"].bool() | include_padding
            vectors = [inputs[b, t].double() for b in range(len(TEXTS)) for t in range(7) if kept[b, t]]
        grams[f"{name}.weight"] = sum(torch.outer(x, x) for x in vectors) / len(vectors)
    return grams


@pytest.mark.parametrize("include_padding", [False, True])
def test_a_gram_is_the_mean_outer_product_of_a_layers_inputs(body, include_padding):
    grams, num_tokens = input_grams(body, TEXTS, include_padding=include_padding)
    want = naive_grams(body, include_padding=include_padding)
    assert num_tokens == (4 * 7 if include_padding else 4 + 7 + 2 + 3)
    assert grams.keys() == want.keys()
    assert len(grams) == 2 * 6 + 1
    for name, gram in grams.items():
        assert gram.dtype == torch.float32
        torch.testing.assert_close(gram.double(), want[name], rtol=1e-5, atol=1e-6)


def test_without_padding_it_does_not_matter_what_is_batched_with_what(body):
    together, num_tokens = input_grams(body, TEXTS.take([0, 1, 2, 3] * 5))  # more than one batch
    alone = [input_grams(body, TEXTS.take([index])) for index in range(len(TEXTS))]
    name = "encoder.layer.1.output.dense.weight"
    want = sum(grams[name] * count for grams, count in alone) / sum(count for _, count in alone)
    assert num_tokens == 5 * sum(count for _, count in alone)
    torch.testing.assert_close(together[name], want, rtol=1e-5, atol=1e-6)
