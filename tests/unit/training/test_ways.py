"""Ways of training on plain modules: what trains, what stays, what is said of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import DenseChange, SparseChange
from coldfuse.training.ways import WAYS, Base, Preparation, moving_tensors, parse_way


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear(x))


class Said(NamedTuple):
    loss: Tensor


class Body(nn.Module):
    """An embedding, four layers, a batch norm and a private head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.layers = nn.ModuleList([Layer() for _ in range(4)])
        self.batch_norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.batch_norm(x.mean(1)))


NAMES = {name: f"base.{name}" for name, _ in Body().named_parameters() if not name.startswith("head")}
HEAD = {"head.weight", "head.bias"}


def body() -> Body:
    torch.manual_seed(0)
    return Body()


def base_of(model: nn.Module) -> Base:
    before = {f"base.{name}": value.double().numpy().ravel().copy() for name, value in model.state_dict().items()}

    def tensors(model: nn.Module) -> Mapping[str, Tensor]:
        return {
            f"base.{name}": value
            for name, value in model.state_dict().items()
            if value.is_floating_point() and name not in HEAD
        }

    return Base(tensors=tensors, floats=lambda name, first, count: before[name][first : first + count])


def train(model: nn.Module, num_steps: int = 3) -> None:
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(num_steps):
        model(torch.randint(0, 9, (5, 3))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def moved(line: str) -> set[str]:
    """Return the tensors that a way changed in training, by own names, after holding its word against it."""
    model = body()
    base = base_of(model)
    before = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    way = parse_way(line)
    made = way.prepare(model, NAMES)
    can_move = set(moving_tensors(made))
    train(made)
    changes = way.changes(made, base)
    after = made.state_dict()
    differ = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert differ <= can_move
    for name in differ - HEAD:
        change = changes[f"base.{name}"]
        assert isinstance(change, DenseChange)
        delta = change.read(0, before[name].numel())
        np.testing.assert_array_equal(delta, (after[name].double() - before[name].double()).numpy().ravel())
    return differ - HEAD


def test_full_moves_everything() -> None:
    floats = {name for name, value in body().state_dict().items() if value.is_floating_point()}
    assert moved("full") == floats - HEAD


def test_bias_moves_biases_alone() -> None:
    biases = {f"layers.{i}.{part}.bias" for i in range(4) for part in ("linear", "norm")}
    assert moved("bias") == biases | {"batch_norm.bias"}


def test_norms_move_with_their_running_means() -> None:
    norms = {f"layers.{i}.norm.{part}" for i in range(4) for part in ("weight", "bias")}
    assert moved("norms") == norms | {f"batch_norm.{x}" for x in ("weight", "bias", "running_mean", "running_var")}


@pytest.mark.parametrize(
    ("line", "layers"),
    [
        ("layers", {2, 3}),
        ("layers(last=1)", {3}),
        ("layers(upper=0.3)", {2, 3}),
        ("layers(upper=0.25)", {3}),
        ('layers(which="0, 2")', {0, 2}),
    ],
)
def test_layers_move_whole_and_alone(line: str, layers: set[int]) -> None:
    names = {name for name in NAMES if name.startswith(tuple(f"layers.{i}." for i in layers))}
    assert moved(line) == names


@pytest.mark.parametrize("line", ["full(freeze_embeddings=true)", "layers", "bias"])
def test_frozen_embeddings_do_not_move(line: str) -> None:
    assert "words.weight" not in moved(line)


class Plain(nn.Module):
    """No bias, no norm, no stack of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.linear = nn.Embedding(9, 4), nn.Linear(4, 4, bias=False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bias", "Plain has no biases; choose another way"),
        ("norms", "Plain has no normalisations with weights"),
        ("layers", "Plain has no stack of like layers"),
    ],
)
def test_what_a_model_lacks_is_said(line: str, words: str) -> None:
    model = Plain()
    with pytest.raises(UserInputError, match=words):
        parse_way(line).prepare(model, {name: name for name, _ in model.named_parameters()})


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserInputError, match="layers has 4 layers, numbered 0 to 3"):
        parse_way('layers(which="1,4")').prepare(body(), NAMES)
    with pytest.raises(UserInputError, match="layers has 4 layers, numbered 0 to 3"):
        parse_way("layers(last=5)").prepare(body(), NAMES)


def test_frozen_embeddings_that_are_not_there_are_said() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(UserInputError, match="--freeze-embeddings: Sequential shares no embeddings; leave it out"):
        parse_way("full", freeze_embeddings=True).prepare(model, {"0.weight": "w"})


class Odd(nn.Module):
    """An embedding that is none of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.linear = nn.LayerNorm(3), nn.Linear(3, 3)

    def get_input_embeddings(self) -> nn.Module:
        return self.rows


def test_an_embedding_of_another_class_is_frozen_too() -> None:
    model = Odd()
    parse_way("full", freeze_embeddings=True).prepare(model, {name: name for name, _ in model.named_parameters()})
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["rows.weight"]


def test_embeddings_alone_cannot_be_frozen() -> None:
    model = nn.Sequential(nn.Embedding(9, 4))
    with pytest.raises(UserInputError, match="nothing that is shared would be trained, as embeddings are frozen"):
        parse_way("full", freeze_embeddings=True).prepare(model, {"0.weight": "words"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ful", "did you mean full"),
        ("layers(lats=2)", "no parameter 'lats'; did you mean last"),
        ("layers(last=0)", "last=0: Input should be greater than or equal to 1"),
        ("layers(last=1, upper=0.5)", "give one of last, upper and which"),
        ("layers(which=0,3)", "quotes around a value that has commas; got '3'"),
        ("layers(last=1, last=2)", "expected each parameter once"),
        ("full(", "expected something like full"),
        ("", "expected something like full"),
    ],
)
def test_what_is_written_wrongly_is_said_in_one_line(line: str, words: str) -> None:
    with pytest.raises(UserInputError, match=words) as caught:
        parse_way(line)
    assert "\n" not in str(caught.value)


def test_an_unknown_way_lists_the_known_ones() -> None:
    with pytest.raises(UserInputError) as caught:
        parse_way("everything")
    assert all(name in str(caught.value) for name in WAYS)


def test_a_line_with_all_parameters_means_the_same() -> None:
    for line in (
        "full",
        "bias",
        "norms",
        "layers(last=2)",
        'layers(which="0,3")',
        "layers(upper=0.5)",
        "masked(kind=random)",
    ):
        way = parse_way(line, freeze_embeddings=True)
        assert parse_way(way.line()) == way


def examples(count: int) -> Iterator[dict[str, Tensor]]:
    for i in range(min(count, 4)):
        yield {"ids": torch.tensor([[i, i + 1, 5]])}


class Losing(Body):
    """A body whose output has a loss."""

    def forward(self, ids: Tensor) -> Said:
        return Said(super().forward(ids).square().sum())


def fisher(model: nn.Module) -> dict[str, Tensor]:
    """Return the mean squared gradient over single examples, worked out plainly."""
    model.eval()
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch in examples(4):
        model.zero_grad()
        model(**batch).loss.backward()
        for name, p in model.named_parameters():
            sums[name] += p.grad.square() / 4
    model.zero_grad(set_to_none=True)
    return sums


def masked(model: nn.Module, line: str, **others: object) -> tuple[dict[str, SparseChange], dict[str, Tensor]]:
    """Train a model at a mask; return what is said of it, and what moved."""
    base, way = base_of(model), parse_way(line)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    way.prepare(model, NAMES, Preparation(examples=examples, **others))
    model.train()
    own = [p for name, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=0.1, weight_decay=0.0)
    for _ in range(3):
        model(ids=torch.tensor([[0, 1, 5], [2, 3, 5], [3, 4, 5]])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    changes = way.changes(model, base)
    moves = {name: p.detach() - before[name] for name, p in model.named_parameters() if name not in HEAD}
    return {name.removeprefix("base."): changes[name] for name in changes}, moves


def losing() -> Losing:
    torch.manual_seed(0)
    return Losing()


def test_a_fish_mask_is_the_top_of_the_fisher_information() -> None:
    expected = {name: values for name, values in fisher(losing()).items() if name not in HEAD}
    changes, moves = masked(losing(), "masked(density=0.1)")
    flat = torch.cat([values.flatten() for values in expected.values()])
    count = round(0.1 * len(flat))
    least = flat.sort(descending=True).values[count - 1]
    for name, values in expected.items():
        chosen = torch.nonzero(values.flatten() >= least).flatten().tolist()
        assert (changes[name].indices.tolist() if name in changes else []) == chosen
        assert set(torch.nonzero(moves[name].flatten()).flatten().tolist()) <= set(chosen)
    assert sum(len(change.indices) for change in changes.values()) == count
    for name, change in changes.items():
        np.testing.assert_allclose(change.values, moves[name].flatten().double().numpy()[change.indices], atol=1e-6)


def test_a_mask_by_size_takes_the_largest_weights() -> None:
    sizes = torch.cat([p.detach().abs().flatten() for name, p in losing().named_parameters() if name not in HEAD])
    changes, _ = masked(losing(), "masked(kind=magnitude, density=0.02)")
    chosen = [
        abs(losing().get_parameter(name).flatten()[i].item()) for name, c in changes.items() for i in c.indices.tolist()
    ]
    assert sorted(chosen) == pytest.approx(sizes.sort().values[-len(chosen) :].tolist())


def test_a_random_mask_follows_from_the_seed() -> None:
    line = "masked(kind=random, density=0.05)"
    places = [
        {name: change.indices.tolist() for name, change in masked(losing(), line, seed=seed)[0].items()}
        for seed in (1, 1, 2)
    ]
    assert places[0] == places[1] != places[2]


def test_a_mask_holds_for_its_rounds(tmp_path: Path) -> None:
    def places(number: int, line: str = "masked(kind=random, density=0.05, rounds=3)") -> dict[str, list[int]]:
        changes, _ = masked(losing(), line, folder=tmp_path, round=number)
        return {name: change.indices.tolist() for name, change in changes.items()}

    first = places(4)
    assert places(5) == places(6) == places(4) == first
    assert places(7) != first
    assert len(list(tmp_path.glob("mask-*"))) == 1  # the first holds no longer
    assert places(8, "masked(kind=random, density=0.04, rounds=3)") != places(7)


def test_a_mask_is_not_kept_for_another_task_or_seed(tmp_path: Path) -> None:
    def places(number: int, **chosen_for: object) -> dict[str, list[int]]:
        line = "masked(kind=random, density=0.05, rounds=3)"
        changes, _ = masked(losing(), line, folder=tmp_path, round=number, **chosen_for)
        return {name: change.indices.tolist() for name, change in changes.items()}

    first = places(1, task="regression", seed=1)
    assert places(2, task="regression", seed=1) == first
    assert places(2, task="fill-mask", seed=1) != first
    assert places(2, task="regression", seed=2) != first


def test_a_mask_leaves_frozen_embeddings_alone() -> None:
    changes, moves = masked(losing(), "masked(density=0.2, freeze_embeddings=true)")
    assert changes
    assert "words.weight" not in changes
    assert not moves["words.weight"].any()


def test_a_mask_without_examples_is_refused() -> None:
    with pytest.raises(UserInputError, match="no element says anything on these data"):
        parse_way("masked").prepare(losing(), NAMES)
