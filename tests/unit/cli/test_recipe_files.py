"""Files of weights and recipes: what is read, and the line that is said for what is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from layered_models import make_arrays, write_arrays
from typer.testing import CliRunner

import coldfuse
from coldfuse.cli.main import app
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.recipes.documents import read_document
from coldfuse.recipes.weights_file import read_weights_file


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "alice", "bob")):
        write_arrays(tmp_path / name, make_arrays(seed), "F32")
    return tmp_path


def run(*words: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["fuse", *words])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def refusal(*words: str) -> str:
    with pytest.raises(UserInputError) as caught:
        run(*words, "--out", "out")
    assert not Path("out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yaml", "models:\n\ta: 1\n", r"line 2: .*cannot start any token; YAML is indented with spaces"),
        ("a.yaml", "a: 1\nb: {c: 1, c: 2}", "line 2: .*'c' is said twice"),
        ("a.yaml", "a: &x [1]\nb: *x", "line 2: .*aliases are not taken"),
        ("a.yaml", "[" * 5000, "nested too deep"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a.yaml", "a: 1\n---\nb: 1", "another document"),
        ("a.yaml", "a: 2020-13-45", "not plain data: month must be"),
        ("a.yaml", "a: !!bool maybe", "not plain data"),
        ("a.yaml", "a: !!int ''", "not plain data"),
        ("a.yaml", "a: !!timestamp x", "not plain data"),
        ("a.yaml", "? [a]\n: 1", "unhashable key"),
        ("a.yaml", "- a", "expected names with values .* got a list"),
        ("a.yaml", "", "got nothing"),
        ("a.yaml", "1: 2", "expected a name, got 1; put it between quotes"),
        ("a.yaml", "{a: 1, a: 2}", "'a' is said twice"),
        ("a.yaml", " " * (1 << 20) + "a: 1", "larger than 1 MiB"),
        ("a.json", '{"a": 1, "a": 2}', "'a' is said twice"),
        ("a.json", '{"a":' * 100_000, "nested too deep"),
        ("a.json", '{"a": ', "line 1: not JSON"),
        ("a.json", '{"a": ' + "9" * 5000 + "}", "not plain data"),
        ("a.json", "a: 1", "not JSON"),
    ],
)
def test_a_file_that_is_no_plain_data_is_refused_with_its_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserInputError, match=says) as caught:
        read_document(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_bytes_that_are_no_text_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfea")
    for path, says in (
        (tmp_path / "a.yaml", "UTF-8; byte 0"),
        (tmp_path, "no file"),
        (tmp_path / "b", "there is none"),
    ):
        with pytest.raises(UserInputError, match=says):
            read_document(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: {dave: {weight: 1}}", "dave: there is no such model; there are x/alice, y/alice, bob"),
        ("models: {alice: {weight: 1}}", "alice: 2 models are called so; name each by its whole place"),
        ("models: {bob: {weight: 1}, ./bob: {weight: 2}}", "./bob: bob has settings already"),
        ("models: {bob: {weight: .nan}}", "bob: weight: expected a finite number, got 'nan'"),
        ("models: {bob: {weight: -.inf}}", "expected a finite number"),
        ("models: {bob: {weight: true}}", "expected a finite number, got 'True'"),
        ("models: {bob: {weight: much}}", "expected a finite number, got 'much'"),
        ("models: {bob: {weight: []}}", "expected a list, got an empty list"),
        ("models: {bob: {weight: [1, [2]]}}", "expected a finite number"),
        ("models: {bob: {weight: [{filter: mlp}]}}", "a rule without a value"),
        ("models: {bob: {weight: [{filter: mlp, value: 1}, 2]}}", "expected names with values, got 2"),
        ("models: {bob: {weight: {filter: mlp}}}", "expected a number, or value with an optional filter"),
        ("models: {bob: {weight: {filter: 3, value: 1}}}", "filter: expected a name, got 3"),
        ("models: {bob: 3}", "bob: expected names with values, got 3"),
        ("model: {}", "'model' is not known here; known are models, parameters"),
        ("merge_method: ties", "a whole recipe of mergekit; give it as --recipe"),
        ("method: ties", "a whole recipe; give it as --recipe"),
        ("{}", "says nothing"),
    ],
)
def test_weights_that_mean_nothing_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    with pytest.raises(UserInputError, match=says):
        read_weights_file(path, ["x/alice", "y/alice", "bob"])


def test_json_says_the_weights_that_were_used_so_that_they_can_be_used_again(folders: Path) -> None:
    Path("w.yaml").write_text(
        "models:\n  alice: {weight: [0, 1]}\n  bob:\n    weight: [{filter: mlp, value: 0.5}, {value: 0.3}]\n"
        "parameters: {density: 0.4, scale: [1, 0.5]}\n"
    )
    words = ("./base", "./alice", "bob/", "--method", "ties(variant=mergekit)")
    said = json.loads(run(*words, "--weights-file", "w.yaml", "--out", "one", "--json")[0])
    assert said["method"].startswith("ties(density=0.4, scale=varies")
    alice, bob = said["contributions"]
    assert alice["weight"] is None
    assert alice["settings"]["weight"]["model.layers.1.mlp.up_proj.weight"] == 0.5
    assert sorted(set(bob["settings"]["weight"].values())) == [0.3, 0.5]
    models = {item["path"]: item["settings"] for item in said["contributions"]}
    Path("again.json").write_text(json.dumps({"models": models, "parameters": said["parameters"]}))
    words = ("./base", "bob", "alice", "--method", "ties(variant=mergekit, density=0.4)")
    again = run(*words, "--weights-file", "again.json", "--out", "two")[0]
    assert f"digest {said['digest']}" in again


def test_a_plan_says_the_weights_that_would_be_used(folders: Path) -> None:
    Path("w.yaml").write_text("models: {alice: {weight: [0, 1]}, bob: {weight: 2}}")
    words = ("base", "alice", "bob", "--method", "weighted-mean", "--weights-file", "w.yaml")
    plan = run(*words, "--out", "x", "--plan")[0]
    assert "weight 0 to 1 by tensor" in plan
    assert "weight 2" in plan


def test_python_takes_the_same(folders: Path) -> None:
    weights = {"models": {"alice": {"weight": [0, 1]}, "bob": {"weight": 0.5}}}
    Path("w.json").write_text(json.dumps(weights))
    digests = {
        coldfuse.fuse("base", ["alice", "bob"], method="weighted-mean", weights=given, out=f"o{number}").digest
        for number, given in enumerate((weights, "w.json", Path("w.json")))
    }
    assert len(digests) == 1
    made = coldfuse.fuse("base", ["bob", "alice"], method="weighted-mean", weights="w.json", out="made")
    assert made.weights["models"]["bob"] == {"weight": 0.5}
    again = coldfuse.fuse("base", ["alice", "bob"], method="weighted-mean", weights=made.weights, out="again")
    assert {made.digest, again.digest} == digests
    with pytest.raises(UserInputError, match="weights: dave: there is no such model"):
        coldfuse.fuse("base", ["alice"], method="weighted-mean", weights={"models": {"dave": {}}}, out="x")


def test_a_recipe_of_ones_own_says_all(folders: Path) -> None:
    recipe = {
        "method": "dare(drop=0.3) then ties(variant=mergekit)",
        "base": "base",
        "models": {"alice": {"weight": 0.7}, "bob": None},
        "parameters": {"ties.density": [1, 0.5]},
        "seed": 3,
    }
    Path("r.json").write_text(json.dumps(recipe))
    Path("w.json").write_text(json.dumps({key: recipe[key] for key in ("models", "parameters")}))
    first = run("--recipe", "r.json", "--out", "one")[0].splitlines()
    words = ("base", "alice", "bob", "--method", str(recipe["method"]), "--seed", "3", "--weights-file", "w.json")
    assert run(*words, "--out", "two")[0].splitlines()[-1] == first[-1]
    assert first[0].startswith("fused 2 models by dare(drop=0.3, rescale=true, variant=paper) then ties(density=varies")
    Path("r.yaml").write_text("method: mean\nbase: base\nmodels: [alice, bob]\n")
    assert (
        run("--recipe", "r.yaml", "--out", "three")[0].splitlines()[-1]
        == run("base", "alice", "bob", "--out", "four")[0].splitlines()[-1]
    )


TIES = "merge_method: ties\nbase_model: base\nmodels: [{model: alice, parameters: {weight: 1}}, {model: bob}]\n"
BOTH = "models: [{model: alice}, {model: bob}]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: {alice: {}}", r"no recipe: expected method with base and models .* merge_method .* got models"),
        ("method: ties\nmodels: [alice]", "base: expected a name, got nothing"),
        ("method: ties\nbase: base\nmodels: []", "models: expected those that are fused"),
        ("method: ties\nbase: base\nmodels: [alice, alice]", "one is named twice"),
        ("method: ties\nbase: base\nmodels: [alice]\nseed: [1]", "seed: expected a number or a text"),
        ("method: ties\nbase: base\nmodel: [alice]", "'model' is not known here"),
        (TIES, "bob: no weight for tensor model.embed_tokens.weight"),
        (TIES + "tokenizer_source: union", "tokenizer_source 'union' is not taken"),
        (TIES + "tokenizer: {source: base}", "tokenizer is not taken"),
        (TIES + "chat_template: auto", "chat_template is not taken"),
        (TIES + "modules: {a: {}}", "modules is not taken"),
        (TIES + "dtpye: float32", "'dtpye' is not known here"),
        (TIES + "dtype: bfloat16", "the result is to be BF16, and the base is F32, which coldfuse keeps"),
        (TIES + "dtype: int4", "dtype 'int4': expected one of float32"),
        (TIES + "parameters: {rescale: true}", "rescale: true is taken for dare and della alone"),
        (TIES + "parameters: {normalize: 2}", "normalize: expected true or false, got 2"),
        (TIES + "parameters: {normalize: [{filter: mlp, value: 1}]}", "normalize: expected one value for all tensors"),
        (TIES.replace("bob}", "bob, parameters: {weight: 1, density: 2}}"), r"bob: .*ties: density=2: Input should be"),
        ("merge_method: passthrough\n" + BOTH, "passthrough stacks layers .*; taken are linear, task_arithmetic"),
        ("merge_method: magic\n" + BOTH, "magic is not a method that is taken"),
        ("merge_method: ties\n" + BOTH, "ties: expected a base_model"),
        ("merge_method: ties\nbase_model: base\nmodels: [{model: base}]", "expected a model beside the base"),
        ("merge_method: linear\nmodels: [{model: alice}, {model: ./alice}]", "is named twice"),
        ("merge_method: linear\nmodels: [{model: a+b}]", "a[+]b: an adapter on a model is not taken"),
        ("merge_method: linear\nmodels: [{model: a@b}]", "a@b: a revision is not taken"),
        ("merge_method: linear\nmodels: [{modle: a}]", "'modle' is not known here"),
        ("merge_method: linear\n", "expected either models or slices"),
        ("merge_method: slerp\nbase_model: base\nparameters: {t: 1}\n" + BOTH, "slerp: expected the base and"),
        ("merge_method: slerp\nbase_model: base\nmodels: [{model: bob}]", "slerp: expected t under parameters"),
        ("merge_method: nuslerp\nmodels: [{model: alice}]", "nuslerp: expected two models beside the base, got 1"),
        ("merge_method: nuslerp\nparameters: {nuslerp_flatten: false}\n" + BOTH, "false is taken with a base_model"),
        ("merge_method: multislerp\nparameters: {normalize_weights: false}\n" + BOTH, "weights: false is not taken"),
        ("merge_method: model_stock\nbase_model: base\nmodels: [{model: bob}]", "expected two models beside the base"),
        ("merge_method: linear\nslices: [{sources: [{model: alice, layer_range: [0, 2]}]}]\nparameters: {weight: 1}",
         "layer_range ends at 2, and the base has 3 layers"),
        ("merge_method: linear\nslices: [{sources: [{model: alice, layer_range: [1, 3]}]}]",
         "a layer_range begins at 1, and 0 is next; coldfuse fuses whole models"),
        ("merge_method: linear\nslices: [{sources: [{model: alice, layer_range: [0, 2]}]}, "
         "{sources: [{model: alice, layer_range: [1, 3]}]}]", "begins at 1, and 2 is next"),
        ("merge_method: linear\nslices: [{sources: [{model: alice, layer_range: [0, 2]}]}, "
         "{sources: [{model: bob, layer_range: [2, 3]}]}]", "expected the same models, in one order, in all slices"),
        ("merge_method: linear\nslices: [{sources: [{model: alice, layer_range: 3}]}]", "expected .FIRST, END."),
        ("merge_method: linear\nslices: [{sources: [{model: alice, layer_range: [0, 3]}, "
         "{model: alice, layer_range: [0, 3]}]}]", "alice is named twice"),
        ("merge_method: linear\nslices: [{}]", "sources: expected a list, got nothing"),
        ("merge_method: slerp\nbase_model: base\nslices: [{sources: [{model: base, layer_range: [0, 3]}, "
         "{model: bob, layer_range: [0, 2]}]}]", "a layer is fused with the same layer of other models"),
        ("merge_method: slerp\nbase_model: base\nslices: [{base_model: bob, sources: [{model: base, "
         "layer_range: [0, 3]}]}]", "expected one base for all layers"),
    ],
)  # fmt: skip
def test_what_a_recipe_says_that_is_not_done_is_named(folders: Path, text: str, says: str) -> None:
    Path("r.yaml").write_text(text)
    assert re.search(says, refusal("--recipe", "r.yaml"))


def test_what_has_no_effect_is_said(folders: Path) -> None:
    Path("r.yaml").write_text(
        "merge_method: dare_linear\nname: x\nbase_model: base\ntokenizer_source: base\ndtype: bfloat16\n"
        "out_dtype: float32\nparameters: {int8_mask: true, epsilon: 1, density: 0.5}\nmodels:\n"
        "- {model: alice, parameters: {weight: [{filter: visual, value: 3}, {value: 1}], lambda: 2}}\n"
    )
    _, said = run("--recipe", "r.yaml", "--out", "out")
    for words in (
        "name has no effect",
        "epsilon has no effect on mergekit's dare_linear",
        "lambda of a model has no effect",
        "int8_mask has no effect on the result",
        "random masks are coldfuse's own",
        "weight: filter 'visual' matches no tensor",
    ):
        assert f"note: r.yaml: {words}" in said


def test_a_recipe_stands_in_place_of_arguments(folders: Path) -> None:
    Path("r.yaml").write_text("method: mean\nbase: base\nmodels: [alice]\n")
    assert "leave BASE, MODELS, --method, --param out" in refusal("base", "alice", "--recipe", "r.yaml")
    assert "leave BASE, MODELS, --method, --param out" in refusal("--recipe", "r.yaml", "--method", "ties")
    assert "leave --weights and --weights-file out" in refusal("--recipe", "r.yaml", "--weights", "1")
    Path("w.yaml").write_text("models: {alice: {weight: 1}}")
    assert "weights are given twice" in refusal(
        "base", "alice", "--method", "weighted-mean", "--weights", "1", "--weights-file", "w.yaml"
    )


@pytest.mark.parametrize("words", [(), ("base",)])
def test_models_without_a_recipe_are_needed(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["fuse", *words, "--out", "x"])
    assert result.exit_code == 2
    assert "expected BASE and MODELS, or --recipe FILE" in result.output
