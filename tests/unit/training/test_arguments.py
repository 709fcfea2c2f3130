"""Arguments of the Trainer's own: taken by name, refused by name."""

import json
import re

import pytest

from coldfuse.errors import UserInputError
from coldfuse.training.arguments import check_train_args, read_train_args
from coldfuse.training.settings import TrainingSettings


def test_yaml_and_json_are_read_alike(tmp_path):
    given = {"optim": "adafactor", "learning_rate": 5e-5, "gradient_checkpointing": True}
    (tmp_path / "a.json").write_text(json.dumps(given))
    (tmp_path / "a.yaml").write_text("optim: adafactor\nlearning_rate: 5e-5\ngradient_checkpointing: true\n")
    assert read_train_args(tmp_path / "a.json") == read_train_args(tmp_path / "a.yaml") == given


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("push_to_hub", "sends nothing away"),
        ("hub_token", "sends nothing away"),
        ("trackio_space_id", "sends nothing away"),
        ("output_dir", "own folder"),
        ("save_steps", "own folder"),
        ("resume_from_checkpoint", "resumes by itself"),
        ("load_best_model_at_end", "keeps the best by itself"),
        ("eval_strategy", "keeps the best by itself"),
        ("seed", "--seed decides it"),
        ("use_cpu", "--device decides it"),
        ("deepspeed", "coldfuse.attach"),
        ("dataloader_drop_last", "drops none"),
        ("label_smoothing_factor", "what its loss is"),
        ("a_name_that_nobody_has", "taken are activation_checkpointing"),
    ],
)
def test_what_the_node_decides_is_refused_by_name(name, reason):
    with pytest.raises(UserInputError, match=f"{name} is not taken.*{re.escape(reason)}"):
        check_train_args({name: 1})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("learning_rate", "fast", "a number"),
        ("gradient_accumulation_steps", 1.5, "a whole number"),
        ("gradient_accumulation_steps", True, "a whole number"),
        ("bf16", "yes", "true or false"),
        ("optim", ["adamw"], "a word"),
        ("gradient_accumulation_steps", 0, "more than 0"),
        ("num_train_epochs", -1, "more than 0"),
        ("learning_rate", float("nan"), "more than 0"),
    ],
)
def test_a_value_of_another_kind_is_refused(name, value, wanted):
    with pytest.raises(UserInputError, match=f"{name} is .*expected {wanted}"):
        check_train_args({name: value})


@pytest.mark.parametrize(
    "content", ["weight_decay: .nan", "adam_beta1: .inf", "lr_scheduler_kwargs: {1: 2, a: 3}", "optim_args: 2026-01-01",
                "lr_scheduler_kwargs: {since: 2026-01-01}"]
)  # fmt: skip
def test_a_value_by_which_no_run_can_be_known_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(UserInputError, match="expected") as found:
        TrainingSettings(train_args=read_train_args(tmp_path / "a.yaml"))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("content", ["", "- optim\n", "optim", "a: [1", "\x00"])
def test_a_file_that_holds_no_names_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(UserInputError, match=r"a\.yaml: expected") as found:
        read_train_args(tmp_path / "a.yaml")
    assert "\n" not in str(found.value)


def test_a_number_that_yaml_reads_as_a_word_is_a_number():
    assert TrainingSettings(train_args={"learning_rate": "5e-3"}).train_args == {"learning_rate": 5e-3}


def test_what_only_reports_decides_nothing_and_what_trains_does():
    plain = TrainingSettings()
    assert TrainingSettings(train_args={"report_to": "tensorboard", "logging_steps": 5}).decisive() == plain.decisive()
    assert TrainingSettings(train_args={"optim": "sgd"}).decisive() != plain.decisive()
    assert TrainingSettings(way="bias").decisive() != plain.decisive()
    assert TrainingSettings(objectives=("sam(rho=0.05)",)).decisive() != plain.decisive()
    assert {"way", "objectives", "train_args"}.isdisjoint(plain.decisive())  # what was trained before they were there
