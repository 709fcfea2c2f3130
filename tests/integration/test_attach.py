"""Trainers of transformers and TRL, as people have them, take part in rounds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import wait_until
from own_training import aggregating, federation_of, released
from tiny_model import write_tiny_model
from tiny_texts import write_text_model
from torch.utils.data import Dataset, IterableDataset

import coldfuse
from coldfuse.attached.trainer import AttachedTrainer
from coldfuse.registry.federation import Federation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from peft import LoraConfig, get_peft_model
    from transformers import (
        BertForSequenceClassification,
        EarlyStoppingCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


class Parity(Dataset):
    """Rows that say whether their first token is even."""

    def __init__(self, size: int = 16, first: int = 0) -> None:
        self.rows = [self.row(first + i) for i in range(size)]

    @staticmethod
    def row(seed: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(4, 60, (8,), generator=torch.Generator().manual_seed(seed))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[0] % 2}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return self.rows[i]


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter(Parity().rows)


def classifier(base: Path, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return BertForSequenceClassification.from_pretrained(base, num_labels=2)


def trainer_of(
    model: Any, kind: type = Trainer, *, rows: Any = None, extra: dict[str, Any] | None = None, **args: Any
) -> Any:
    settings = {"per_device_train_batch_size": 8, "report_to": [], "learning_rate": 1e-3, "num_train_epochs": 1}
    settings |= {"disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False, "use_cpu": True}
    given = {"model": model} if not isinstance(model, dict) else model
    data = Parity() if rows is None else rows
    return Trainer(**given, args=TrainingArguments("out", **settings | args), train_dataset=data, **extra or {})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "base", num_layers=1)


@pytest.fixture
def held(tmp_path: Path, base: Path) -> Federation:
    return federation_of(tmp_path, base)


@pytest.fixture
def federation(held: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[coldfuse.Federation]:
    monkeypatch.chdir(tmp_path)
    with aggregating(held), coldfuse.connect(held.store.url) as federation:
        yield federation


def body(model: Any) -> dict[str, torch.Tensor]:
    state = {name.removeprefix("bert."): tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if "classifier" not in name and tensor.is_floating_point()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], *, tolerance: float = 0.0) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one
    )


class Watch(TrainerCallback):
    """Notes what each training begins from."""

    def __init__(self) -> None:
        self.began: list[tuple[dict[str, torch.Tensor], int, int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **_: Any) -> None:
        self.began.append((body(model), state.global_step, len(optimizer.state)))


def test_each_round_begins_from_the_release_and_the_head_goes_on(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    watch, heads = Watch(), []
    trainer = trainer_of(classifier(base), extra={"callbacks": [watch]})
    for round_ in coldfuse.attach(trainer, federation, name="ada", rounds=2):
        heads.append(trainer.model.classifier.weight.detach().clone())
        trainer.train()
        assert trainer.state.global_step == 2
        heads.append(trainer.model.classifier.weight.detach().clone())
        made = body(trainer.model)
        assert round_.base_release == len(watch.began) - 1
    assert [(step, moments) for _, step, moments in watch.began] == [(0, 0), (0, 0)]
    assert [same(began, released(held, n)) for n, (began, _, _) in enumerate(watch.began)] == [True, True]
    assert same(released(held, 2), made, tolerance=1e-6)
    assert torch.equal(heads[1], heads[2])
    assert [c.num_examples for n in (1, 2) for c in held.release(n).contributions] == [16, 16]


def test_a_head_that_tells_other_classes_apart_is_left_alone(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    begun, left = {}, {}
    for step, classes in enumerate(({0: "no", 1: "yes"}, {0: "bad", 1: "good"}, {0: "no", 1: "yes"})):
        model = classifier(base, seed=step)
        model.config.id2label = classes
        own, trainer = model.classifier.weight.detach().clone(), trainer_of(model)
        for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
            begun[step] = (own, model.classifier.weight.detach().clone())
            trainer.train()
        left[step] = model.classifier.weight.detach().clone()
    assert torch.equal(*begun[1])
    assert torch.equal(begun[2][1], left[0])


def test_only_the_checkpoints_of_old_rounds_are_removed_from_the_users_folder(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    own = [Path("out") / name for name in ("release-v1-final", "release-00000-notes", "checkpoint-7")]
    for folder in own:
        folder.mkdir(parents=True)
    trainer = trainer_of(classifier(base), save_strategy="epoch")
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=3):
        trainer.train()
    assert all(folder.is_dir() for folder in own)
    kept = sorted(path.name[:13] for path in Path("out").iterdir() if path not in own)
    assert kept == ["release-00001", "release-00002"]


def test_what_the_user_saves_in_a_round_and_others_checkpoints_there_stay(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    others = [Path("out") / f"release-0000{n}-{'0' * 18}" / "checkpoint-1" for n in range(3)]
    for folder in others:
        folder.mkdir(parents=True)
    trainer = trainer_of(classifier(base), save_strategy="epoch")
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=3):
        trainer.train()
        trainer.save_model()
    assert all(folder.is_dir() for folder in others)
    own = sorted(path for path in Path("out").iterdir() if "0" * 18 not in path.name)
    assert [len(list(path.glob("checkpoint-*"))) for path in own] == [0, 1, 1]
    assert all((path / "model.safetensors").is_file() for path in own)


def test_a_train_method_that_somebody_has_put_on_the_trainer_is_called_and_stays(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    trainer, calls = trainer_of(classifier(base)), []

    def train(**options: Any) -> Any:
        calls.append(options)
        return Trainer.train(trainer, **options)

    trainer.train = train
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
        trainer.train()
    assert len(calls) == 1
    assert trainer.train is train


def test_an_adapter_of_any_name_is_sent(held: Federation, federation: coldfuse.Federation, base: Path) -> None:
    settings = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
    trainer = trainer_of(get_peft_model(classifier(base), settings, adapter_name="mine"), learning_rate=1e-1)
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
        trainer.train()
    begin, now = released(held, 0), released(held)
    assert {name for name in now if not torch.equal(now[name], begin[name])} == {
        "encoder.layer.0.attention.self.query.weight"
    }


def test_the_best_model_is_what_is_sent(held: Federation, federation: coldfuse.Federation, base: Path) -> None:
    other = trainer_of(classifier(base, 5))
    trainer = trainer_of(
        classifier(base), eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, num_train_epochs=2,
        save_only_model=True, extra={"eval_dataset": Parity(8, 50), "callbacks": [EarlyStoppingCallback(1)]},
    )  # fmt: skip
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1, send="always"):
        trainer.train()
        other.train()  # a second Trainer in the process
        best = body(trainer.model)
    assert trainer.state.best_model_checkpoint.startswith("out/release-00000-")
    assert same(released(held), best, tolerance=1e-6)
    assert trainer.args.output_dir == "out"
    assert "train" not in vars(trainer)


def test_a_model_that_is_made_for_each_training_begins_from_the_release(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    watch = Watch()
    trainer = trainer_of({"model_init": lambda: classifier(base)}, extra={"callbacks": [watch]})
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=2):
        trainer.train()
    assert [same(began, released(held, n)) for n, (began, _, _) in enumerate(watch.began)] == [True, True]


def test_an_optimiser_of_the_users_own_is_as_it_was_in_each_round(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    model, watch = classifier(base), Watch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    trainer = trainer_of(model, extra={"callbacks": [watch], "optimizers": (optimizer, scheduler)})
    rates = []
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=2):
        rates.append((optimizer.param_groups[0]["lr"], scheduler.last_epoch))
        trainer.train()
        rates.append((optimizer.param_groups[0]["lr"], scheduler.last_epoch))
    assert rates == [(3e-3, 0), (1e-3, 2)] * 2
    assert [moments for _, _, moments in watch.began] == [0, 0]


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_are_merged_as_they_leave_and_begin_anew(
    held: Federation, federation: coldfuse.Federation, base: Path, dora: bool
) -> None:
    settings = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"], use_dora=dora)
    trainer = trainer_of(get_peft_model(classifier(base), settings), learning_rate=1e-1)
    layer = trainer.model.base_model.model.bert.encoder.layer[0].attention.self.query
    for round_ in coldfuse.attach(trainer, federation, name="ada", rounds=2):
        assert not layer.lora_B["default"].weight.any()
        begin = released(held, round_.base_release)
        assert torch.equal(layer.base_layer.weight, begin["encoder.layer.0.attention.self.query.weight"])
        trainer.train()
        step = layer.get_delta_weight("default")
        merged = layer.base_layer.weight + step
    now = released(held)["encoder.layer.0.attention.self.query.weight"]
    if not dora:
        torch.testing.assert_close(now, merged, rtol=0, atol=1e-6)
    changed = {name for name in begin if not torch.equal(begin[name], released(held)[name])}
    assert changed == {f"encoder.layer.0.attention.self.{name}.weight" for name in ("query", "value")}


def test_what_has_not_become_better_is_not_sent_and_it_says_so(
    held: Federation, federation: coldfuse.Federation, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(classifier(base), learning_rate=1.0, extra={"eval_dataset": Parity(8, 50)})
    begun = []
    for _ in range(2):  # what the first has spoiled is not where the second begins, though nothing was sent
        for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
            begun.append(trainer.model.classifier.weight.detach().clone())
            trainer.train()
            assert not torch.equal(trainer.model.classifier.weight, begun[-1])
    assert torch.equal(*begun)
    assert "is not better: nothing was sent" in caplog.text
    assert held.journal(1).state().received == {}


def test_a_stream_needs_to_say_how_many_examples_it_is(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    trainer = trainer_of(classifier(base), rows=Stream(), max_steps=2)
    with pytest.raises(coldfuse.UserInputError, match="num_examples=N"):
        coldfuse.attach(trainer, federation)
    for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1, num_examples=16):
        trainer.train()
    assert [c.num_examples for c in held.latest().contributions] == [16]


def test_what_cannot_take_part_is_said_before_anything_is_trained(
    federation: coldfuse.Federation, base: Path, tmp_path: Path
) -> None:
    evaluating = Trainer(classifier(base), TrainingArguments("out", report_to=[]), eval_dataset=Parity())
    with pytest.raises(coldfuse.UserInputError, match="no train_dataset"):
        coldfuse.attach(evaluating, federation)
    wide = write_tiny_model(tmp_path / "wide", num_layers=1, hidden_size=16)
    with pytest.raises(coldfuse.SchemaMismatchError, match="the base has"):
        next(coldfuse.attach(trainer_of(classifier(wide)), federation, name="ada"))
    with pytest.raises(coldfuse.UserInputError, match=r"what coldfuse\.connect returns, got '127"):
        coldfuse.attach(trainer_of(classifier(base)), "127.0.0.1:7700")
    with pytest.raises(coldfuse.UserInputError, match="expected 'better' or 'always'"):
        coldfuse.attach(trainer_of(classifier(base)), federation, send="sometimes")


def test_data_sets_by_name_count_by_their_rows(base: Path) -> None:
    trainer = trainer_of(classifier(base))
    trainer.train_dataset = {"one": Parity(3), "two": Parity(5)}
    assert AttachedTrainer(trainer).num_examples == 8
    trainer.train_dataset["two"] = Stream()
    assert AttachedTrainer(trainer).num_examples is None


def test_a_block_that_trains_nothing_is_said(held: Federation, federation: coldfuse.Federation, base: Path) -> None:
    frozen = classifier(base)
    frozen.bert.requires_grad_(False)
    trainer = trainer_of(frozen)
    rounds = coldfuse.attach(trainer, federation, name="ada")
    next(rounds)
    trainer.train()
    with pytest.raises(coldfuse.UserInputError, match="nothing differs from release 0"):
        next(rounds)
    assert held.journal(1).state().received == {}


def test_training_that_raises_sends_nothing_and_leaves_the_trainer_as_it_was(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    class Fails(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise ZeroDivisionError

    failing = Fails()
    trainer = trainer_of(classifier(base), extra={"callbacks": [failing]})

    def run() -> None:
        for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
            trainer.train()

    with pytest.raises(ZeroDivisionError):
        run()
    assert trainer.args.output_dir == "out"
    trainer.remove_callback(failing)
    run()
    assert held.latest().release == 1


def test_two_at_once_with_one_folder_are_refused(federation: coldfuse.Federation, base: Path) -> None:
    one = coldfuse.attach(trainer_of(classifier(base)), federation, name="ada")
    next(one)
    with pytest.raises(coldfuse.UserInputError, match="in use"):
        next(coldfuse.attach(trainer_of(classifier(base)), federation, name="ada"))
    one.close()


def test_a_killed_training_goes_on_from_its_last_checkpoint(
    held: Federation, federation: coldfuse.Federation, base: Path
) -> None:
    class Killed(TrainerCallback):
        def __init__(self, at: int) -> None:
            self.at, self.steps = at, []

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.steps.append(state.global_step)
            if state.global_step == self.at:
                raise KeyboardInterrupt

    def run(at: int) -> Killed:
        killed = Killed(at)
        trainer = trainer_of(
            classifier(base), save_strategy="steps", save_steps=2, num_train_epochs=3, extra={"callbacks": [killed]}
        )
        try:
            for _ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
                trainer.train()
                killed.made = body(trainer.model)
        except KeyboardInterrupt:
            pass
        return killed

    assert run(at=5).steps == [1, 2, 3, 4, 5]
    [folder] = Path("out").glob("release-00000-*")
    (folder / "checkpoint-9").mkdir()  # one that was being written when the power went
    again = run(at=-1)
    assert again.steps == [5, 6]
    assert same(released(held), again.made, tolerance=1e-6)


def test_who_is_late_goes_on_with_the_next_release(
    held: Federation, federation: coldfuse.Federation, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(classifier(base))
    bases = []
    for round_ in coldfuse.attach(trainer, federation, name="ada", rounds=1):
        bases.append(round_.base_release)
        trainer.train()
        if round_.base_release == 0:
            with coldfuse.connect(held.store.url) as other:
                other.fetch("quicker")
                state = {name: tensor + 0.01 for name, tensor in released(held, 0).items()}
                other.contribute(state, num_examples=4, name="ben")
                while held.latest().release == 0:
                    pass
    assert bases == [0, 1]
    assert "what was trained on release 0 is dropped" in caplog.text
    assert [c.contributor for c in held.latest().contributions] == ["ada"]


def test_a_script_that_starts_after_a_rejection_waits_for_the_next_release(
    held: Federation, federation: coldfuse.Federation, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(classifier(base))

    def release() -> None:
        wait_until(lambda: "rejected: " in caplog.text, "the rejection")
        with coldfuse.connect(held.store.url) as other:
            other.fetch("others")
            state = {name: tensor + 0.01 for name, tensor in released(held, 0).items()}
            other.contribute(state, num_examples=4, name="ben")

    claiming = coldfuse.attach(trainer, federation, name="ada", num_examples=10**7, rounds=1)
    next(claiming)
    trainer.train()  # two steps for ten million examples
    with pytest.raises(coldfuse.ContributionRejectedError):
        next(claiming)
    caplog.clear()
    with ThreadPoolExecutor(1) as pool:
        released_by_other = pool.submit(release)
        again = coldfuse.attach(trainer, federation, name="ada", num_examples=10**7)
        assert next(again).base_release == 1
        released_by_other.result()
    again.close()


def test_the_reference_of_preferences_is_the_release_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset as Rows
    from trl import DPOConfig, DPOTrainer

    monkeypatch.chdir(tmp_path)
    held = federation_of(tmp_path, write_text_model(tmp_path / "base", "llama"))
    rows = Rows.from_list([{"prompt": "One", "chosen": " way.", "rejected": f" {n}."} for n in range(8)])
    args = DPOConfig("out", use_cpu=True, report_to=[], num_train_epochs=1, save_strategy="no", disable_tqdm=True)
    trainer = DPOTrainer("base", args=args, train_dataset=rows)
    name = "model.embed_tokens.weight"
    with aggregating(held), coldfuse.connect(held.store.url) as federation:
        for round_ in coldfuse.attach(trainer, federation, name="ada", rounds=2):
            release = released(held, round_.base_release)
            assert torch.equal(trainer.ref_model.get_parameter(name), release[name])
            assert torch.equal(trainer.model.get_parameter(name), release[name])
            trainer.train()
    assert not torch.equal(released(held)[name], released(held, 1)[name])
