"""A module and a training loop of somebody's own take part in rounds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from own_training import aggregating, federation_of, released, write_tensors
from torch import nn

import coldfuse
from coldfuse.core.contribution import Score
from coldfuse.registry.federation import Federation


class Small(nn.Module):
    """A body with a batch norm, and a head."""

    def __init__(self, num_classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def body(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith("encoder.")}


def train(model: nn.Module, seed: int = 0, steps: int = 3) -> None:
    """The loop of somebody who knows nothing of federations."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(steps):
        inputs = torch.randn(16, 8, generator=generator)
        labels = torch.randint(0, 3, (16,), generator=generator)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def held(tmp_path: Path) -> Federation:
    return federation_of(tmp_path, write_tensors(tmp_path / "base", body(Small(seed=7))))


@pytest.fixture
def federation(held: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with aggregating(held), coldfuse.connect(held.store.url) as federation:
        yield federation


def test_a_round_begins_from_the_release_and_the_next_one_from_what_became_of_it(
    held: Federation, federation: coldfuse.Federation
) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        for name, tensor in released(held, 0).items():
            assert torch.equal(model.state_dict()[name], tensor)
        train(model)
        verdict = round_.contribute(model, num_examples=48)
    assert verdict.decision is coldfuse.Decision.ADMITTED
    assert round_.left_out == ("encoder.1.num_batches_tracked", "head.weight", "head.bias")
    trained, head = {k: v.clone() for k, v in body(model).items()}, model.head.weight.detach().clone()
    for name, tensor in released(held).items():
        torch.testing.assert_close(tensor, trained[name], rtol=0, atol=1e-6)

    fresh = Small(seed=3)
    with federation.round(name="ada") as round_:
        assert round_.base_release == 1
        round_.load_into(fresh)
        round_.contribute(fresh_trained(fresh), num_examples=48)
    assert held.latest().release == 2
    assert not torch.equal(fresh.head.weight, Small(seed=3).head.weight)
    assert not torch.equal(fresh.head.weight, head)


def fresh_trained(model: nn.Module) -> nn.Module:
    train(model, seed=1)
    return model


def test_private_tensors_come_back_in_the_next_process(held: Federation, federation: coldfuse.Federation) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        train(model)
        round_.contribute(model, num_examples=1)
    other = Small(seed=9)
    with federation.round(name="ada") as round_:
        round_.load_into(other)
    assert torch.equal(other.head.weight, model.head.weight)
    assert torch.equal(other.encoder[1].num_batches_tracked, torch.tensor(3))
    for name, tensor in released(held).items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_running_statistics_travel_and_counters_do_not(held: Federation, federation: coldfuse.Federation) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        train(model)
        round_.contribute(model, num_examples=1)
    now = released(held)
    assert not torch.equal(now["encoder.1.running_mean"], released(held, 0)["encoder.1.running_mean"])
    assert "encoder.1.num_batches_tracked" not in now


def test_without_contribute_nothing_goes_out_and_it_says_so(
    held: Federation, federation: coldfuse.Federation, caplog: pytest.LogCaptureFixture
) -> None:
    with federation.round(name="ada") as round_:
        round_.load_into(Small())
    assert "nothing was sent" in caplog.text
    assert held.journal(1).state().received == {}


def test_a_round_that_raises_leaves_nothing_half_done(held: Federation, federation: coldfuse.Federation) -> None:
    def fail() -> None:
        with federation.round(name="ada", work="work") as round_:
            round_.load_into(Small())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with federation.round(name="ada", work="work") as round_:
        model = Small()
        round_.load_into(model)
        train(model)
        round_.contribute(model, num_examples=1)
    assert not list(Path("work").rglob("*.part"))
    assert held.latest().release == 1


def test_patterns_say_what_travels_and_the_rest_is_kept(held: Federation, federation: coldfuse.Federation) -> None:
    model = Small()
    with federation.round(name="ada", share=["encoder.0.*", "encoder.1.weight"]) as round_:
        round_.load_into(model)
        train(model)
        round_.contribute(model, num_examples=1)
    now, before = released(held), released(held, 0)
    changed = {name for name in now if not torch.equal(now[name], before[name])}
    assert changed - {"encoder.0.bias"} == {"encoder.0.weight", "encoder.1.weight"}  # no gradient before a norm
    other = Small(seed=5)
    with federation.round(name="ada", share=["encoder.0.*", "encoder.1.weight"]) as round_:
        round_.load_into(other)
    assert torch.equal(other.encoder[3].weight, model.encoder[3].weight)
    with (
        pytest.raises(coldfuse.UserInputError, match=r"share='decoder\.\*'"),
        federation.round(name="ben", share="decoder.*") as round_,
    ):
        round_.load_into(Small())


def test_what_cannot_be_contributed_is_said_and_nothing_is_sent(
    held: Federation, federation: coldfuse.Federation
) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        with pytest.raises(coldfuse.UserInputError, match="nothing differs from release 0"):
            round_.contribute(model, num_examples=1)
        train(model)
        model.encoder[0].weight.data[0, 0] = float("nan")
        with pytest.raises(coldfuse.UserInputError, match=r"encoder\.0\.weight has values that are not finite"):
            round_.contribute(model, num_examples=1)
        wide = Small()
        wide.encoder[0] = nn.Linear(9, 16)
        with pytest.raises(coldfuse.SchemaMismatchError, match=r"encoder\.0\.weight: shape \[16, 9\]"):
            round_.load_into(wide)
        with pytest.raises(coldfuse.SchemaMismatchError, match="expected the base's architecture"):
            round_.load_into(nn.Sequential(nn.LayerNorm(8)))
    assert held.journal(1).state().received == {}


@pytest.mark.parametrize(
    "said", [{"num_examples": 0}, {"num_examples": 2.5}, {"num_examples": 1, "num_steps": -1},
             {"num_examples": 1, "score": Score(before=0.5, after=1.5)}]
)  # fmt: skip
def test_what_no_manifest_may_say_is_refused_and_the_folder_goes_on(
    held: Federation, federation: coldfuse.Federation, said: dict[str, Any]
) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        train(model)
        with pytest.raises(coldfuse.UserInputError, match=r"expected .*[01]"):
            round_.contribute(model, **said)
        round_.contribute(model, num_examples=3)
    assert [c.num_examples for c in held.latest().contributions] == [3]
    with (
        pytest.raises(coldfuse.UserInputError, match="expected F32, BF16 or F16"),
        federation.round(name="ada", encoding="bf16"),
    ):
        pass


def test_two_rounds_at_once_in_one_folder_are_refused(federation: coldfuse.Federation) -> None:
    with (
        federation.round(name="ada"),
        pytest.raises(coldfuse.UserInputError, match="in use"),
        federation.round(name="ada"),
    ):
        pass


def test_a_delta_that_was_finished_and_not_sent_is_sent_and_not_trained_again(
    held: Federation, federation: coldfuse.Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldfuse.contributor.sender import Sender

    model = Small()

    def leave_before_it_is_sent() -> None:
        with federation.round(name="ada") as round_:
            round_.load_into(model)
            train(model)
            round_.contribute(model, num_examples=5)

    with monkeypatch.context() as patch:
        patch.setattr(Sender, "deliver", interrupted)
        with pytest.raises(KeyboardInterrupt):
            leave_before_it_is_sent()
    assert held.journal(1).state().received == {}
    with federation.round(name="ada") as round_:
        assert round_.base_release == 1
    assert [c.num_examples for c in held.latest().contributions] == [5]
    for name, tensor in released(held).items():
        torch.testing.assert_close(tensor, body(model)[name], rtol=0, atol=1e-6)


def test_what_was_made_for_one_federation_is_not_sent_to_another_of_the_same_base(
    held: Federation, federation: coldfuse.Federation, tmp_path: Path
) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        train(model)
        round_.contribute(model, num_examples=5)
    (tmp_path / "other").mkdir()
    other = federation_of(tmp_path / "other", tmp_path / "base")
    with aggregating(other), coldfuse.connect(other.store.url) as second, second.round(name="ada") as round_:
        assert round_.base_release == 0
    assert other.journal(1).state().received == {}


def test_a_script_may_change_its_folder_in_a_round(
    held: Federation, federation: coldfuse.Federation, tmp_path: Path
) -> None:
    model = Small()
    (tmp_path / "run").mkdir()
    with federation.round(name="ada") as round_:
        os.chdir(tmp_path / "run")
        round_.load_into(model)
        train(model)
        round_.contribute(model, num_examples=5)
    assert held.latest().release == 1
    assert not (tmp_path / "run" / ".coldfuse").exists()


def interrupted(*_: object, **__: object) -> bool:
    raise KeyboardInterrupt


def test_what_a_narrower_dtype_rounds_off_is_no_change(held: Federation, federation: coldfuse.Federation) -> None:
    model = Small().bfloat16()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        with torch.no_grad():
            model.encoder[0].weight[0, 0] += 1
        round_.contribute(model, num_examples=1)
    now, before = released(held), released(held, 0)
    assert {name for name in now if not torch.equal(now[name], before[name])} == {"encoder.0.weight"}
    assert torch.equal((now["encoder.0.weight"] != before["encoder.0.weight"]).nonzero(), torch.tensor([[0, 0]]))


def test_a_model_that_is_cast_after_it_was_set_changes_by_training_alone(
    held: Federation, federation: coldfuse.Federation
) -> None:
    model = Small()
    with federation.round(name="ada") as round_:
        round_.load_into(model)
        model.bfloat16()
        with torch.no_grad():
            model.encoder[0].weight[0, 0] += 1
        round_.contribute(model, num_examples=1)
    now, before = released(held), released(held, 0)
    changed = {name: int((now[name] != before[name]).sum()) for name in now}
    assert {name: count for name, count in changed.items() if count} == {"encoder.0.weight": 1}


def test_a_model_without_elements_in_memory_or_in_eight_bits_is_refused(federation: coldfuse.Federation) -> None:
    with torch.device("meta"):
        meta = Small()
    with federation.round(name="ada") as round_:
        with pytest.raises(coldfuse.UserInputError, match="no elements in memory"):
            round_.load_into(meta)
        with pytest.raises(coldfuse.UserInputError, match="quantised model"):
            round_.load_into(Small().requires_grad_(False).to(torch.float8_e4m3fn))


def test_private_tensors_that_a_disk_has_damaged_are_set_aside_with_a_word(
    held: Federation, federation: coldfuse.Federation, caplog: pytest.LogCaptureFixture
) -> None:
    def take_part() -> None:
        model = Small()
        with federation.round(name="ada", work="work") as round_:
            round_.load_into(model)
            train(model)
            round_.contribute(model, num_examples=1)

    take_part()
    [kept] = Path("work").glob("private-*.safetensors")
    kept.write_bytes(kept.read_bytes()[:40])
    take_part()
    assert f"set aside as {kept.name}.damaged" in caplog.text
    assert held.latest().release == 2


def test_no_pattern_at_all_is_not_everything(held: Federation, federation: coldfuse.Federation) -> None:
    with federation.round(name="ada", share=[]) as round_, pytest.raises(coldfuse.UserInputError, match="leave share"):
        round_.load_into(Small())


def test_a_model_is_set_and_its_delta_is_written_in_less_memory_than_the_model_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Module:
        layers = [nn.Linear(1024, 1024, bias=False) for _ in range(48)]
        return nn.Sequential(*layers).requires_grad_(False)

    model = make()
    for parameter in model.parameters():
        parameter.zero_()
    held = federation_of(tmp_path, write_tensors(tmp_path / "base", model.state_dict()))
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    monkeypatch.chdir(tmp_path)
    with aggregating(held), coldfuse.connect(held.store.url) as federation, federation.round(name="ada") as round_:
        before = reset_peak()
        round_.load_into(model)
        model[3].weight[0, 0] = 1.0
        round_.contribute(model, num_examples=1, wait=False)
        taken = peak() - before
    assert model_bytes == 48 << 22
    assert taken < model_bytes * 0.6


def reset_peak() -> int:
    """Have Linux count the most memory of this process anew, and return what it has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
