"""Options of the local objective, each against its equation, on models of a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.training.objectives import OBJECTIVES, Beginning, Terms, parse_objectives


class Said(NamedTuple):
    loss: Tensor


class Model(nn.Module):
    """Two layers and a private head, with a squared loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(2)])
        self.head = nn.Linear(3, 1)

    def forward(self, ids: Tensor, labels: Tensor) -> Said:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return Said((self.head(x).squeeze(-1) - labels).square().mean())


IDS, LABELS = torch.tensor([0, 1, 2, 1]), torch.tensor([1.0, 0.0, 2.0, -1.0])


def model() -> Model:
    torch.manual_seed(0)
    return Model()


def examples(count: int) -> Iterator[dict[str, Tensor]]:
    for i in range(min(count, len(IDS))):
        yield {"ids": IDS[i : i + 1], "labels": LABELS[i : i + 1]}


def beginning(m: Model, **others: object) -> Beginning:
    shared = {name: p for name, p in m.named_parameters() if not name.startswith("head")}
    return Beginning(model=m, shared=shared, examples=examples, **others)


def terms(m: Model, *lines: str, saved: dict[str, Tensor] | None = None, **others: object) -> Terms:
    return Terms(parse_objectives(lines), beginning(m, **others), saved=saved)


def backward(m: Model) -> None:
    m(IDS, LABELS).loss.backward()


def complete(m: Model, made: Terms) -> None:
    """Do what a trainer does between a step's last pass back and the step."""

    def again() -> None:
        m.zero_grad()
        backward(m)

    made.complete(lambda loss: loss.backward(), again)


def gradients(m: Model) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in m.named_parameters()}


def moved(m: Model) -> dict[str, Tensor]:
    """Move all weights a little; return where they were."""
    before = {name: p.detach().clone() for name, p in m.named_parameters()}
    with torch.no_grad():
        for p in m.parameters():
            p.add_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
    return before


def added(m: Model, made: Terms) -> dict[str, Tensor]:
    """Return what terms add to the loss's own gradients."""
    m.zero_grad()
    backward(m)
    own = gradients(m)
    complete(m, made)
    return {name: both - own[name] for name, both in gradients(m).items()}


def test_fedprox_adds_the_gradient_of_its_penalty_to_what_is_shared() -> None:
    m = model()
    made = terms(m, "fedprox(mu=0.3)")
    base = moved(m)
    for name, gradient in added(m, made).items():
        expected = 0.3 * (m.get_parameter(name) - base[name])
        torch.testing.assert_close(gradient, expected * (not name.startswith("head")), rtol=1e-5, atol=1e-6)


def test_l2_sp_pulls_the_head_to_zero_as_well() -> None:
    m = model()
    made = terms(m, "l2-sp(alpha=0.3, beta=0.2)")
    base = moved(m)
    for name, gradient in added(m, made).items():
        theta = m.get_parameter(name)
        expected = 0.2 * theta if name.startswith("head") else 0.3 * (theta - base[name])
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_ewc_pulls_by_the_mean_squared_gradient_of_single_examples_at_the_base() -> None:
    m = model()
    squares = {name: torch.zeros_like(p) for name, p in m.named_parameters()}
    for batch in examples(4):
        m.zero_grad()
        m(**batch).loss.backward()
        for name, gradient in gradients(m).items():
            squares[name] += gradient.square() / 4
    made = terms(m, "ewc(strength=2, examples=100)")
    base = moved(m)
    for name, gradient in added(m, made).items():
        expected = 2 * squares[name] * (m.get_parameter(name) - base[name]) * (not name.startswith("head"))
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_ewc_goes_on_from_what_a_checkpoint_has() -> None:
    saved = {name: t.clone() for name, t in terms(model(), "ewc").tensors().items()}
    m = model()
    made = Terms(parse_objectives(["ewc"]), Beginning(model=m, shared=beginning(m).shared), saved=saved)
    assert all(torch.equal(made.tensors()[name], tensor) for name, tensor in saved.items())
    assert any(tensor.any() for tensor in saved.values())


def test_sam_takes_the_gradient_at_the_worst_point_nearby_and_comes_back() -> None:
    m, other = model(), model()
    made = terms(m, "sam(rho=0.1)")
    backward(m)
    complete(m, made)
    backward(other)
    norm = torch.cat([p.grad.flatten() for p in other.parameters()]).norm()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1 * p.grad / norm)
    other.zero_grad()
    backward(other)
    for (name, theta), at in zip(m.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theta.grad, at.grad, rtol=1e-4, atol=1e-6)
        assert torch.equal(theta, model().get_parameter(name))


def test_a_penalty_is_of_the_weights_that_step_and_not_of_those_nearby() -> None:
    m = model()
    made = terms(m, "sam(rho=0.5) + fedprox(mu=3)")
    backward(m)
    complete(m, made)
    both = gradients(m)
    again = model()
    backward(again)
    complete(again, terms(again, "sam(rho=0.5)"))
    for name, gradient in gradients(again).items():
        torch.testing.assert_close(both[name], gradient)  # at the base itself, the pull is 0


def train(m: Model, made: Terms, num_steps: int, first: int = 0) -> None:
    for _ in range(first, num_steps):
        m.zero_grad()
        backward(m)
        complete(m, made)
        with torch.no_grad():
            for p in m.parameters():
                p.sub_(0.1 * p.grad)
        made.after_step()


def test_synaptic_intelligence_sums_what_each_weight_did_for_the_loss(tmp_path: Path) -> None:
    m = model()
    made = terms(m, "si(strength=2, xi=0.5)", folder=tmp_path, round=1)
    sums = {name: torch.zeros_like(p) for name, p in m.named_parameters()}
    start, reference = model(), model()
    for _ in range(3):
        reference.zero_grad()
        backward(reference)
        with torch.no_grad():
            for name, p in reference.named_parameters():
                sums[name] += 0.1 * p.grad * p.grad  # ω −= g Δθ, and Δθ = −0.1 g
                p.sub_(0.1 * p.grad)
    train(m, made, 3)
    made.finish(float, max)
    importance = {
        name: sums[name] / ((p - start.get_parameter(name)).square() + 0.5) for name, p in m.named_parameters()
    }
    again = model()
    later = terms(again, "si(strength=2, xi=0.5)", folder=tmp_path, round=2)
    base = moved(again)
    for name, gradient in added(again, later).items():
        expected = 4 * importance[name] * (again.get_parameter(name) - base[name]) * (not name.startswith("head"))
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_synaptic_intelligence_reads_only_what_earlier_rounds_left(tmp_path: Path) -> None:
    m = model()
    made = terms(m, "si", folder=tmp_path, round=3)
    train(m, made, 2)
    made.finish(float, max)
    again = model()
    assert not any(t.any() for t in added(again, terms(again, "si", folder=tmp_path, round=3)).values())


def test_synaptic_intelligence_keeps_what_its_round_and_the_next_need(tmp_path: Path) -> None:
    for number in (1, 2, 5):
        m = model()
        made = terms(m, "si", folder=tmp_path, round=number)
        train(m, made, 1)
        made.finish(float, max)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "importance-2.safetensors", "importance-5.safetensors",
    ]  # fmt: skip


def test_synaptic_intelligence_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole, first = model(), model()
    made = terms(whole, "si", folder=tmp_path, round=1)
    train(whole, made, 4)
    made_first = terms(first, "si", folder=tmp_path, round=1)
    train(first, made_first, 2)
    saved = {name: t.clone() for name, t in made_first.tensors().items()}
    second = model()
    made_second = terms(second, "si", folder=tmp_path, round=1, saved=saved)
    second.load_state_dict(first.state_dict())
    train(second, made_second, 4, first=2)
    for name, tensor in made.tensors().items():
        assert torch.equal(tensor, made_second.tensors()[name])


def test_an_altered_importance_is_said(tmp_path: Path) -> None:
    m = model()
    made = terms(m, "si", folder=tmp_path, round=1)
    train(m, made, 2)
    made.finish(float, max)
    file = tmp_path / "importance-1.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserInputError, match=r"importance-1.*altered"):
        terms(model(), "si", folder=tmp_path, round=2)


def test_lower_layers_train_at_a_lower_rate() -> None:
    m = model()
    optimizer = torch.optim.AdamW(m.parameters(), lr=0.8, weight_decay=0.1)
    terms(m, "layer-decay(decay=0.5)").split_groups(optimizer, m)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert all(group["weight_decay"] == 0.1 for group in optimizer.param_groups)
    found = {name: rates[id(p)] for name, p in m.named_parameters()}
    assert found["embed.weight"] == pytest.approx(0.8 * 0.5**3)
    assert found["layers.0.0.weight"] == pytest.approx(0.8 * 0.5**2)
    assert found["layers.1.0.bias"] == pytest.approx(0.8 * 0.5)
    assert found["head.weight"] == 0.8


@pytest.mark.parametrize(("best", "expected"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.1)])
def test_wise_ft_goes_back_as_far_as_validation_likes(best: float, expected: float) -> None:
    m = model()
    made = terms(m, "wise-ft")
    start, end = model(), model()
    moved(m)
    moved(end)

    @torch.no_grad()
    def alpha() -> float:
        gone = (m.head.weight - start.head.weight).norm() / (end.head.weight - start.head.weight).norm()
        return float(gone)

    found = made.finish(lambda: -abs(alpha() - best), lambda score, than: score > than)
    assert alpha() == pytest.approx(expected, abs=1e-5)
    assert found == pytest.approx(-abs(expected - best), abs=1e-5)


def test_of_equal_scores_wise_ft_takes_the_larger_step_and_leaves_it_untouched() -> None:
    m = model()
    made = terms(m, "wise-ft")
    moved(m)
    before = {name: p.clone() for name, p in m.named_parameters()}
    assert made.finish(lambda: 0.7, lambda score, than: score > than) == 0.7
    assert all(torch.equal(p, before[name]) for name, p in m.named_parameters())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["fedprx"], "did you mean fedprox"),
        (["fedprox(nu=1)"], "no parameter 'nu'; it has mu"),
        (["fedprox(mu=-1)"], "mu=-1: Input should be greater than 0"),
        (["sam + sam(rho=0.1)"], "sam is given twice"),
        (["sam", "sam"], "sam is given twice"),
        (["sam +"], "expected something like fedprox"),
        (["sam(rho=nan)"], "rho=nan"),
    ],
)
def test_what_is_written_wrongly_is_said(lines: list[str], words: str) -> None:
    with pytest.raises(UserInputError, match=words):
        parse_objectives(lines)


def test_one_line_means_the_same_however_it_is_given() -> None:
    together = parse_objectives(["sam + l2-sp(alpha=1e-2,beta=0)"])
    assert together == parse_objectives(["l2-sp(beta=0, alpha=0.01)", "sam(rho=0.05)"])
    assert parse_objectives([" + ".join(o.line() for o in together)]) == together
    assert all(parse_objectives([name])[0].line().startswith(name) for name in OBJECTIVES)


def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    m = model()
    adapted = Beginning(model=m, shared={})
    for line in ("fedprox", "l2-sp", "ewc"):
        with pytest.raises(UserInputError, match="an adapter trains beside them"):
            Terms(parse_objectives([line]), adapted)
    with pytest.raises(UserInputError, match="needs a folder of the node"):
        terms(m, "si")
    with pytest.raises(UserInputError, match="Fisher information of all weights is 0"):
        Terms(parse_objectives(["ewc"]), Beginning(model=m, shared=beginning(m).shared))
    with pytest.raises(UserInputError, match="no stack of like layers"):
        Terms(parse_objectives(["layer-decay"]), Beginning(model=m.head, shared=dict(m.head.named_parameters())))
