"""`coldfuse statistics` as its users run it."""

import json
import math

import pytest
import torch
from commands import run_coldfuse
from reviews import write_reviews
from safetensors.torch import load_file
from tiny_model import write_tiny_model
from tiny_rounds import floats, parse_file, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import ColdfuseError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.statistics import check_statistics
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.training.head import LinearHead, save_head


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "alice")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "films.csv", num=40)


def compute(model, data, out, *options):
    """Run the command in this process, which has torch already; return what it prints."""
    words = ["statistics", model, "--data", data, "--out", out, "--device", "cpu", "--threads", 1, *options]
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, ColdfuseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_fisher_information_is_written_for_every_tensor(model, data, tmp_path):
    command = ("statistics", model, "--data", data, "--kind", "fisher", "--examples", 12, "--json")
    (line,) = run_coldfuse(*command, "--out", tmp_path / "f.safetensors").succeed().lines
    said, folder = json.loads(line), open_checkpoint(model)
    header = read_file_header(tmp_path / "f.safetensors")
    info = check_statistics(header, folder.schema, kind="fisher", what="f", model=folder.digest())
    assert (info.estimator, info.num_examples, info.count, info.over) == ("exact", 12, 12, "examples")
    read = said.pop("data")
    assert (read["rows"], read["examples"], read["classes"]) == (40, 40, {"negative": 20, "positive": 20})
    assert said == info.model_dump(exclude_none=True) | {
        "path": str(tmp_path / "f.safetensors"), "num_tensors": len(folder.schema),
        "size_bytes": (tmp_path / "f.safetensors").stat().st_size,
    }  # fmt: skip
    assert header.schema.keys() == folder.schema.keys()
    fisher = load_file(tmp_path / "f.safetensors")
    assert all((tensor >= 0).all() for tensor in fisher.values())
    assert fisher["encoder.layer.0.attention.self.value.weight"].all()
    assert not fisher["pooler.dense.weight"].any()  # mean pooling does not use it


def test_the_same_command_gives_the_same_bytes_and_another_estimator_others(model, data, tmp_path):
    for name, estimator in (("a", "exact"), ("b", "exact"), ("c", "empirical")):
        compute(model, data, tmp_path / name, "--kind", "fisher", "--estimator", estimator, "--examples", 4)
    a, b = ((tmp_path / name).read_bytes() for name in "ab")
    assert a == b
    assert not torch.equal(*(load_file(tmp_path / n)["embeddings.LayerNorm.weight"] for n in "ac"))


def test_gram_matrices_count_real_tokens(model, data, tmp_path):
    said = compute(model, data, tmp_path / "g", "--kind", "gram", "--examples", 1000)
    info = check_statistics(read_file_header(tmp_path / "g"), open_checkpoint(model).schema, kind="gram", what="g")
    padded = compute(model, data, tmp_path / "p", "--kind", "gram", "--examples", 1000, "--include-padding", "--json")
    assert (info.num_examples, info.over, info.padding) == (40, "tokens", "excluded")
    assert (json.loads(padded)["padding"], json.loads(padded)["count"] > info.count) == ("included", True)
    assert said.startswith(f"data: {data}: texts from 'text', labels from 'label'; 40 rows, none left out; ")
    assert f"13 tensors from 40 examples ({info.count:,} tokens, padding excluded)" in said
    gram = load_file(tmp_path / "g")["encoder.layer.0.output.dense.weight"]
    assert gram.shape == (64, 64)
    torch.testing.assert_close(gram, gram.T)


def test_a_head_in_the_folder_is_taken(data, tmp_path):
    model = write_tiny_model(tmp_path / "model")
    certain = LinearHead(weight=torch.zeros(2, 32), bias=torch.tensor([0.0, math.log(3)]))
    save_head(model / "head.safetensors", certain, ["positive", "negative"])
    compute(model, data, tmp_path / "f", "--kind", "fisher", "--examples", 4)
    assert not any(tensor.any() for tensor in load_file(tmp_path / "f").values())  # no weight of the body matters


def test_bad_input_ends_with_one_line(model, data, tmp_path):
    line = "\n".join(run_coldfuse("statistics", model, "--data", data, "--kind", "fisher", "--out", data).errors)
    assert line == f"coldfuse: {data}: exists already; give a file that does not"
    for options, message in (
        (("--kind", "fisher", "--label-column", "stars"), "no column 'stars'; its columns are text, label"),
        (("--kind", "fisher", "--device", "abacus"), "device 'abacus' cannot be used"),
    ):
        with pytest.raises(ColdfuseError, match=message):
            compute(model, data, tmp_path / "out", *options)
    with pytest.raises(ColdfuseError, match="expected a Hugging Face model folder"):
        compute(tmp_path / "nothing", data, tmp_path / "out", "--kind", "gram")
    with pytest.raises(ColdfuseError, match="there is no folder"):
        compute(model, data, tmp_path / "no" / "out", "--kind", "gram")
    assert not list(tmp_path.iterdir())


def test_a_head_of_something_else_is_refused(data, tmp_path):
    model = write_tiny_model(tmp_path / "model")
    narrow = LinearHead(weight=torch.zeros(2, 5), bias=torch.zeros(2))
    save_head(model / "head.safetensors", narrow, ["negative", "positive"])
    with pytest.raises(ColdfuseError, match=r"head.safetensors: .*\(2, 5\).*expected .*\(2, 32\)"):
        compute(model, data, tmp_path / "f", "--kind", "fisher")
    save_head(model / "head.safetensors", LinearHead(weight=torch.zeros(1, 32), bias=torch.zeros(1)), ["good"])
    with pytest.raises(ColdfuseError, match="is not one of the task's 1 classes"):
        compute(model, data, tmp_path / "f", "--kind", "fisher")


def test_variance_of_snapshots_is_what_precision_weighs_by(tmp_path):
    """Alice's weights moved by 1, Bob's by 3 along their training: precisions 9 : 1."""
    base = write_model(tmp_path / "base", {"w": floats([0.0] * 4)})
    for name, value, step in (("alice", 1.0, 1.0), ("bob", 2.0, 3.0)):
        start = write_model(tmp_path / f"{name}-0", {"w": floats([value - step] * 4)})
        model = write_model(tmp_path / name, {"w": floats([value] * 4)})
        said = run_coldfuse(
            "statistics", model, "--kind", "variance", "--snapshot", start, "--snapshot", model, "--out",
            tmp_path / f"{name}.v",
        ).succeed().lines  # fmt: skip
        assert said[0].startswith("variance of 1 tensors from 2 snapshots in ")
    inputs = (base, tmp_path / "alice", tmp_path / "bob", "--method", "precision", "--out", tmp_path / "out")
    statistics = ("--statistics", tmp_path / "alice.v", "--statistics", tmp_path / "bob.v")
    run_coldfuse("fuse", *inputs, *statistics).succeed()
    fused = parse_file((tmp_path / "out" / "model.safetensors").read_bytes())["w"]
    assert fused.floats.tolist() == pytest.approx([1.1] * 4)  # (9 · 1 + 1 · 2) / 10


def test_another_kind_or_estimator_is_wrong_usage(model, data, tmp_path):
    for options in (
        ("--kind", "hessian"), ("--kind", "fisher", "--estimator", "guess"), ("--kind", "variance"),
        ("--kind", "fisher", "--snapshot", "a"),
    ):  # fmt: skip
        words = ["statistics", str(model), "--data", str(data), "--out", str(tmp_path / "out"), *options]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert "is not one of" in result.output or "snapshot" in result.output


@pytest.mark.parametrize("kind", ["fisher", "gram"])
def test_a_language_model_has_statistics_of_its_task(tmp_path, kind):
    from tiny_texts import PROVERBS, write_text_model

    model = write_text_model(tmp_path / "model", "llama")
    (tmp_path / "data.txt").write_text("\n".join(PROVERBS[:6]))
    out = tmp_path / kind
    said = compute(model, tmp_path / "data.txt", out, "--kind", kind, "--task", "text-generation", "--json")
    info = check_statistics(read_file_header(out), open_checkpoint(model).schema, kind=kind, what="s")
    assert info.model == open_checkpoint(model).digest()
    assert (info.estimator, json.loads(said)["kind"]) == ("empirical" if kind == "fisher" else "inputs", kind)
    found = load_file(out)
    assert found["lm_head.weight"].any()
    assert found["model.layers.1.mlp.down_proj.weight"].any()
