"""Fisher information and Gram matrices against closed forms; an integration test has them against autograd."""

import torch
from torch import nn

from coldfuse.training.encoding import TokenizedTexts
from coldfuse.training.estimators import by_stored_name, choose, diagonal_fisher, input_grams
from coldfuse.training.head import LinearHead


class Scaled(nn.Module):
    """A body whose features are a table of inputs times one weight each: logistic regression with weights of one."""

    def __init__(self, inputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(inputs.shape[1]))
        self.register_buffer("inputs", inputs)

    def forward(self, input_ids, attention_mask):
        self.last_hidden_state = self.inputs[input_ids] * self.scale
        return self


def test_logistic_regression_has_the_fisher_of_the_textbook():
    inputs = 2 * torch.randn(10, 5, generator=torch.Generator().manual_seed(2))
    head = LinearHead(weight=torch.stack([torch.zeros(5), torch.ones(5)]), bias=torch.zeros(2))
    texts = TokenizedTexts(input_ids=[[i] for i in range(10)], token_type_ids=None, pad_token_id=0)
    p = torch.sigmoid(inputs.double().sum(dim=1, keepdim=True))
    exact = diagonal_fisher(Scaled(inputs), head, texts, [0] * 10)["scale"]
    empirical = diagonal_fisher(Scaled(inputs), head, texts, [0] * 10, estimator="empirical")["scale"]
    torch.testing.assert_close(exact.double(), (p * (1 - p) * inputs**2).mean(dim=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(empirical.double(), (p**2 * inputs**2).mean(dim=0), rtol=1e-5, atol=0)


def test_a_layer_that_is_used_twice_sees_both_inputs():
    body = nn.Module()
    body.twice = nn.Linear(2, 2, bias=False)
    body.forward = lambda input_ids, attention_mask: body.twice(
        body.twice(input_ids[..., None].float().expand(-1, -1, 2))
    )
    with torch.no_grad():
        body.twice.weight.copy_(3 * torch.eye(2))
    grams, _ = input_grams(body, TokenizedTexts(input_ids=[[1, 2]], token_type_ids=None, pad_token_id=0))
    assert grams["twice.weight"].flatten().tolist() == [(1 + 4 + 9 + 36) / 4] * 4


def test_values_get_the_names_of_the_files():
    body = nn.Module()
    body.base_model_prefix = "bert"
    body.LayerNorm, body.private = nn.LayerNorm(3), nn.Linear(3, 2)
    values = {
        name: torch.full_like(parameter, index) for index, (name, parameter) in enumerate(body.named_parameters())
    }
    named = by_stored_name(body, values, ["bert.LayerNorm.gamma", "bert.LayerNorm.beta", "position_ids"])
    assert {name: float(value[0]) for name, value in named.items()} == {
        "bert.LayerNorm.gamma": 0.0, "bert.LayerNorm.beta": 1.0,
    }  # fmt: skip


def test_the_examples_are_a_random_sample_that_the_seed_decides():
    assert choose(5, 9) == choose(5, None) == [0, 1, 2, 3, 4]
    assert choose(1000, 10) == choose(1000, 10) != choose(1000, 10, seed=1)
    assert len(set(choose(1000, 10))) == 10
    assert choose(1000, 10)[-1] > 500  # files are often sorted by label
