"""Searches that look at data, as users of `coldfuse fuse` run them: a tiny model, and a few texts."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from commands import run_coldfuse
from reviews import write_reviews
from tiny_model import write_tiny_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.data.reading import read_dataset
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion
from coldfuse.errors import ColdfuseError
from coldfuse.evaluation.probe import probe_scorer
from coldfuse.search.learned import learn
from coldfuse.search.methods import read_search
from coldfuse.search.resident import Task, load_models, over_all, ready
from coldfuse.search.scored import greedy_soup
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.head import LinearHead, save_head


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_finetuned(base, folder, *, seed, noise):
    """A copy of the base whose weights moved at random."""
    from transformers import AutoModel

    shutil.copytree(base, folder)
    body = AutoModel.from_pretrained(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise)
    body.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, three fine-tuned models of which the last is nearly noise, and two tasks."""
    place = tmp_path_factory.mktemp("searches")
    base = write_tiny_model(place / "base")
    for seed, (name, noise) in enumerate({"alice": 0.01, "bob": 0.02, "carol": 0.3}.items()):
        write_finetuned(base, place / name, seed=seed, noise=noise)
    write_reviews(place / "films.csv", num=64)
    write_reviews(place / "songs.csv", num=64, subject="song")
    (place / "texts.csv").write_text("text\n" + "\n".join(f"a very {word} film {n}" for n in range(9) for word in "xy"))
    return place


MODELS = ("alice", "bob", "carol")


def run(place, out, *options, models=MODELS):
    """Run the command in this process, which has torch already; return what it prints."""
    words = ["fuse", place / "base", *(place / name for name in models), "--out", out, *options]
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def request(place, out, method, models=MODELS):
    return FolderFusion(
        base=place / "base", models=[place / name for name in models], out=out, recipe=read_search(method)
    )


def learned_by(found):
    rules = [rule for settings in found.request.settings for rule in settings["weight"].rules]
    return [number for rule in rules for number in rule.numbers.values()]


def numbers(text, what):
    lines = [line for line in text.splitlines() if what in line and not line.startswith("data: ")]
    return [float(line.split()[0]) for line in lines]


def test_a_greedy_soup_is_at_least_as_good_as_the_best_model(place, tmp_path):
    score = probe_scorer(read_dataset(place / "films.csv"))
    found = greedy_soup(request(place, tmp_path / "out", "greedy-soup"), score, ThreadExecutor(2))
    assert found.score >= max(score(place / name) for name in MODELS)
    said = run(place, tmp_path / "soup", "--method", "greedy-soup", "--data", place / "films.csv")
    assert said.splitlines()[-1] == f"digest {open_checkpoint(tmp_path / 'soup').digest()}"
    assert score(tmp_path / "soup") == found.score
    assert f"{found.score:.4f} +" in said


def test_tuning_keeps_the_best_of_the_grid(place, tmp_path):
    data = ("--data", place / "films.csv", "--data", place / "songs.csv")
    said = run(place, tmp_path / "out", "--method", "task-arithmetic", "--tune", "scale=0:1:0.5", *data)
    scores = numbers(said, "scale=")
    assert len(scores) == 3
    reached = probe_scorer(*(read_dataset(place / name) for name in ("films.csv", "songs.csv")))(tmp_path / "out")
    assert f"{max(scores):.4f}" == f"{reached:.4f}"


@pytest.mark.parametrize(
    "options", [("--method", "greedy-soup"), ("--method", "task-arithmetic", "--tune", "scale=0:1:0.5")]
)
def test_json_holds_what_a_search_has_tried(place, tmp_path, options):
    said = json.loads(run(place, tmp_path / "out", *options, "--data", place / "films.csv", "--json"))
    found = said["search"]
    assert [trial.keys() for trial in found["trials"]] == [{"what", "score", "kept"}] * 3
    assert found["score"] == max(trial["score"] for trial in found["trials"])
    assert len(found["weights"]) == len(MODELS)
    assert sum(weight > 0 for weight in found["weights"]) == len(said["contributions"])


def test_a_greedy_soup_says_how_many_models_it_took(place, tmp_path):
    said = run(place, tmp_path / "out", "--method", "greedy-soup", "--data", place / "films.csv")
    taken = sum(float(line.split()[0]) > 0 for line in said.partition("weights:\n")[2].splitlines()[: len(MODELS)])
    assert f"\nfused {taken} of 3 models by greedy-soup into " in said


@pytest.mark.parametrize("per", ["tensor", "model"])
def test_a_learned_soup_lowers_the_loss_that_it_minimises(place, tmp_path, per):
    said = run(place, tmp_path / "out", "--method", f"learned-soup(per={per})", "--data", place / "films.csv")
    before, after = numbers(said, "cross entropy")
    assert after > before
    weights = numbers(said, str(place))[:3]
    assert sum(weights) == pytest.approx(1, abs=2e-4)
    assert min(weights) >= 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("method", ["adamerging(steps=30)", "trim(density=0.2) then adamerging(steps=30, per=model)"])
def test_adamerging_lowers_the_entropy_that_it_minimises_within_its_bounds(place, tmp_path, method):
    tasks = [Task(data=read_dataset(place / name)) for name in ("films.csv", "songs.csv")]
    found = learn(request(place, tmp_path / "out", method), tasks, ThreadExecutor(2))
    assert found.trace[1].score > found.trace[0].score
    coefficients = learned_by(found)
    assert all(0 <= c <= 1 for c in coefficients)
    assert any(abs(c - 0.3) > 1e-4 for c in coefficients)


def test_coefficients_stay_within_their_bounds_however_far_a_step_goes(place, tmp_path):
    tasks = [Task(data=read_dataset(place / "films.csv"))]
    found = learn(request(place, tmp_path / "out", "adamerging(steps=9, lr=0.5)"), tasks, ThreadExecutor(2))
    coefficients = learned_by(found)
    assert {min(coefficients), max(coefficients)} == {0, 1}


def test_what_is_learned_does_not_depend_on_the_order_of_models(place, tmp_path):
    task = Task(data=read_dataset(place / "films.csv"))
    found = [
        learn(request(place, tmp_path / "out", "learned-soup(epochs=1)", order), [task], ThreadExecutor(2))
        for order in (MODELS, ("carol", "alice", "bob"))
    ]
    assert found[0].request.recipe == found[1].request.recipe
    assert found[1].weights == (found[0].weights[2], *found[0].weights[:2])


def test_the_engine_fuses_what_was_learned(place, tmp_path):
    """The objective of the folder that the engine wrote is the objective that learning ended with."""
    from coldfuse.engine.folder_fusion import fuse_folders
    from coldfuse.search.adamerging import entropy

    task = Task(data=read_dataset(place / "films.csv"))
    found = learn(request(place, tmp_path / "out", "adamerging(steps=5, lr=0.1)"), [task], ThreadExecutor(2))
    fuse_folders(found.request, ThreadExecutor(2))
    models = load_models(place / "base", [tmp_path / "out"], 1)
    data, theta = ready(models, task), models.blend(torch.ones(1, 1))
    reached = over_all(len(data.texts), lambda some: entropy(models.logits(theta, data, some)))
    assert reached == pytest.approx(-found.score, rel=1e-4)


def test_with_a_head_adamerging_needs_no_labels(place, tmp_path):
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    head = LinearHead(weight=weight, bias=torch.zeros(2))
    save_head(tmp_path / "head.safetensors", head, ["negative", "positive"])
    options = ("--data", place / "texts.csv", "--head", tmp_path / "head.safetensors")
    said = run(place, tmp_path / "out", "--method", "adamerging(steps=20)", *options)
    before, after = numbers(said, "entropy")
    assert after > before
    with pytest.raises(ColdfuseError, match="cannot tell which column holds the label"):
        run(place, tmp_path / "other", "--method", "adamerging", *options[:2])


def test_a_head_may_serve_a_learned_soup(place, tmp_path):
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    head = LinearHead(weight=weight, bias=torch.zeros(2))
    save_head(tmp_path / "head.safetensors", head, ["negative", "positive"])
    options = ("--data", place / "films.csv", "--head", tmp_path / "head.safetensors")
    before, after = numbers(run(place, tmp_path / "out", "--method", "learned-soup", *options), "cross entropy")
    assert after > before


def test_searches_are_listed_with_what_they_need():
    result = CliRunner().invoke(app, ["methods", "adamerging"])
    assert "searches on held-out data; for each task texts, and a head" in result.stdout
    listed = CliRunner().invoke(app, ["methods"]).stdout
    assert all(re.search(rf"^ *{name}  ", listed, re.MULTILINE) for name in ("greedy-soup", "learned-soup", "ties"))


def test_a_search_without_data_ends_with_one_line(place, tmp_path):
    command = run_coldfuse("fuse", place / "base", place / "alice", "--out", tmp_path / "o", "--method", "greedy-soup")
    assert command.wait() == 1
    assert command.errors == ["coldfuse: a search chooses by held-out data, and there are none; give --data FILE"]
    assert not list(tmp_path.iterdir())


def test_wrong_requests_are_refused_and_leave_nothing(place, tmp_path):
    films = ("--data", place / "films.csv")
    head = ("--head", place / "head.safetensors")
    for options, message in (
        (("--tune", "absent=skip"), "there are none; give --data"),
        (films, "nothing here looks at data"),
        (("--tune", "scale=1:0:1", *films), "STOP of at least START"),
        (("--tune", "scale=1", *films), "no step has such a parameter"),
        (("--method", "adamerging", *films, *head, *head), "expected one for each --data, got 2 for 1"),
        (("--method", "adamerging", *films, *head), "head.safetensors: no such file"),
        (("--method", "greedy-soup", *films, *head), "leave --head out"),
        (("--method", "learned-soup", *films, *films), "expected one --data, got 2"),
        (("--method", "learned-soup", "--tune", "lr=1,2", *films), "a search cannot be tuned"),
        (("--method", "greedy-soup", "--weights", "1,2,3", *films), "leave --weights"),
        (("--method", "learned-soup", *films, "--memory", "400KiB"), "holds all 3 models in memory"),
        (("--method", "learned-soup", *films, "--device", "abacus"), "device 'abacus' cannot be used"),
        (("--method", "greedy-soup(keep=all)", *films), "greedy-soup: keep=all"),
        (("--method", "greedy-soup", "--data", place / "none.csv"), "no such file"),
    ):
        with pytest.raises(ColdfuseError, match=message):
            run(place, tmp_path / "out", *map(str, options))
        assert not list(tmp_path.iterdir()), message


def test_a_head_of_another_width_is_refused(place, tmp_path):
    save_head(tmp_path / "h", LinearHead(weight=torch.zeros(2, 5), bias=torch.zeros(2)), ["negative", "positive"])
    with pytest.raises(ColdfuseError, match="a head for 5 features was given, the base has 32"):
        run(place, tmp_path / "out", "--method", "adamerging", "--data", place / "texts.csv", "--head", tmp_path / "h")
    (tmp_path / "model").write_bytes((place / "alice" / "model.safetensors").read_bytes())
    with pytest.raises(ColdfuseError, match="expected a head that coldfuse wrote"):
        run(
            place, tmp_path / "o", "--method", "adamerging", "--data", place / "texts.csv", "--head", tmp_path / "model"
        )
