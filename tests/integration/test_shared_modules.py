"""Federations that share a module on a frozen body: releases that PEFT loads, and rounds that fuse products."""

import re
import warnings
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from shared_modules import body, changes_of, make_shared_federation, products, share
from tiny_rounds import contribute, floats, lead, read_model, read_release, write_file

import coldfuse
from coldfuse.aggregator.model import open_base
from coldfuse.core.dtypes import from_floats
from coldfuse.core.round import Admitted, Published, Rejected
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.low_rank import require_shareable
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header
from coldfuse.training.sharing.body import verify_body

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
IDS = torch.arange(8)[None]
LORA = "lora(rank=4)"


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    root = tmp_path_factory.mktemp("bodies")
    return {kind: body(root, kind) for kind in ("llama", "bert")}


def load_body(folder):
    is_writer = "llama" in folder.name
    loader = transformers.AutoModelForCausalLM if is_writer else transformers.AutoModel
    return loader.from_pretrained(folder).eval()


def answer(model):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT and transformers, among themselves
        found = model(input_ids=IDS)
    return getattr(found, "logits", None) if hasattr(found, "logits") else found.last_hidden_state


def load_release(body_folder, release_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns of keys that it misses
        warnings.simplefilter("ignore", FutureWarning)
        return peft.PeftModel.from_pretrained(load_body(body_folder), release_folder).eval()


def arrays(model):
    return {name: tensor.floats for name, tensor in model.items()}


def schema_of(federation):
    return open_base(federation, federation.latest()).schema


def play(federation, size=0.1, count=2):
    """Play a round of random changes of every tensor; return them."""
    number, made = federation.current_round(), []
    for index in range(count):
        made.append(changes_of(schema_of(federation), 100 * number + index, size))
        contribute(federation, f"c{index}", made[-1])
    assert isinstance(lead(federation, number)[-1], Published)
    return made


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_peft_loads_release_0_which_changes_nothing_and_later_ones_which_do(bodies, tmp_path, kind):
    federation = make_shared_federation(tmp_path, bodies[kind], LORA)
    plain = answer(load_body(bodies[kind]))
    connected = coldfuse.connect(tmp_path / "store")
    connected.fetch(tmp_path / "zero")
    assert torch.equal(answer(load_release(bodies[kind], tmp_path / "zero")), plain)
    moved = []
    for _ in range(2):
        play(federation)
        connected.fetch(tmp_path / "latest")
        release = load_release(bodies[kind], tmp_path / "latest")
        assert release.peft_config["default"].base_model_name_or_path == str(bodies[kind])
        moved.append((answer(release) - plain).abs().max())
    assert moved[0] > 1e-3
    assert abs(moved[1] - moved[0]) > 1e-4


def test_the_readme_loads_a_release_as_printed(bodies, tmp_path, monkeypatch):
    share(tmp_path / "model", bodies["llama"], LORA)
    (tmp_path / "body").symlink_to(bodies["llama"])
    [code] = [found for found in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S) if "PeftModel" in found]
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(code, names := {})
    assert torch.equal(answer(names["model"].eval()), answer(load_body(bodies["llama"])))


def test_release_0_is_the_same_for_everybody_and_another_with_another_seed(bodies, tmp_path):
    one, same, other = (share(tmp_path / n, bodies["llama"], line) for n, line in
                        (("a", LORA), ("b", LORA), ("c", "lora(rank=4, seed=1)")))  # fmt: skip
    assert open_checkpoint(one).digest() == open_checkpoint(same).digest() != open_checkpoint(other).digest()
    tensors = arrays(read_model(one))
    assert all(values.any() == ("lora_A" in name) for name, values in tensors.items())


def test_a_round_fuses_products_and_the_manifest_says_what_the_cut_lost(bodies, tmp_path):
    federation = make_shared_federation(tmp_path, bodies["llama"], LORA)
    start = arrays(read_release(federation))
    made = play(federation)
    fused, release = products(arrays(read_release(federation))), federation.latest()
    parts = [products({n: start[n].astype(np.float64) + change[n] for n in change}) for change in made]
    by_factors = products({n: start[n] + sum(change[n] for change in made) / 2 for n in start})
    total = lost = 0.0
    for module in fused:
        whole = sum(part[module] for part in parts) / 2
        u, sigma, v = np.linalg.svd(whole)
        best = (u[:, :4] * sigma[:4]) @ v[:4]
        assert np.allclose(fused[module], best, atol=1e-6)
        assert np.linalg.norm(by_factors[module] - whole) > 1.2 * np.linalg.norm(fused[module] - whole)
        error = np.linalg.norm(sigma[4:]) / np.linalg.norm(sigma)
        assert release.cut.modules[module.removeprefix("base_model.model.")] == pytest.approx(error, abs=1e-6)
        total, lost = total + (sigma**2).sum(), lost + (sigma[4:] ** 2).sum()
    assert release.cut.error == pytest.approx(np.sqrt(lost / total), abs=1e-6)
    assert release.module.kind == "LORA"


@pytest.mark.parametrize("method", ["ties(density=0.5)", "median", "tsv-m", "dare(drop=0.5) then weighted-mean"])
def test_other_methods_work_on_products_whoever_fuses_with_however_many_workers(bodies, tmp_path, method):
    federation = make_shared_federation(tmp_path, bodies["llama"], LORA, method=method, quorum=3)
    schema = schema_of(federation)
    made = [changes_of(schema, seed) for seed in range(3)]
    for index, change in enumerate(made):
        contribute(federation, f"c{index}", change)
    lead(federation, executor=ThreadExecutor(3))
    base_digest, deltas = federation.release(0).model_digest, []
    for index, change in enumerate(made):
        deltas.append(tmp_path / f"{index}.safetensors")
        head = delta_header(schema, change, encoding="F32", base_digest=base_digest)
        body_ = [from_floats(change[name].reshape(-1), "F32").tobytes() for name in sorted(change)]
        deltas[-1].write_bytes(head + b"".join(body_))
    coldfuse.connect(tmp_path / "store").fetch(tmp_path / "zero", release=0)
    fused = coldfuse.fuse(
        tmp_path / "zero", deltas, method=method, out=tmp_path / "fused", workers=1,
        **({"weights": [100] * 3} if "weighted" in method else {}),
    )  # fmt: skip
    assert fused.digest == federation.latest().model_digest != base_digest
    assert load_release(bodies["llama"], tmp_path / "fused")


def test_a_product_that_is_a_linear_combination_is_the_same_whole_and_as_factors(bodies, tmp_path):
    """`clip(…)` that clips nothing has the mean made from whole matrices."""
    ends = []
    for method in ("mean", "clip(norm=1e9) then mean"):
        federation = make_shared_federation(tmp_path / method[:4], bodies["llama"], LORA, method=method)
        play(federation)
        ends.append(products(arrays(read_release(federation))))
    assert all(np.allclose(ends[0][module], ends[1][module], atol=1e-6) for module in ends[0])


@pytest.mark.parametrize(
    ("line", "kind"), [("prompt(tokens=3)", "llama"), ("ia3", "bert"), ("prefix(tokens=3)", "llama")]
)
def test_prompts_prefixes_and_vectors_are_fused_tensor_by_tensor(bodies, tmp_path, line, kind):
    federation = make_shared_federation(tmp_path, bodies[kind], line)
    start = arrays(read_release(federation))
    made = play(federation)
    fused = arrays(read_release(federation))
    for name, before in start.items():
        assert np.allclose(fused[name], before + (made[0][name] + made[1][name]) / 2, atol=1e-6)
    coldfuse.connect(tmp_path / "store").fetch(tmp_path / "got")
    assert not torch.equal(answer(load_release(bodies[kind], tmp_path / "got")), answer(load_body(bodies[kind])))
    assert federation.latest().cut is None


def test_patterns_share_a_part_of_the_body_and_nothing_else(bodies, tmp_path):
    federation = make_shared_federation(tmp_path, bodies["bert"], "encoder.layer.1.*, pooler.*")
    names = read_release(federation).keys()
    assert all(name.startswith(("encoder.layer.1.", "pooler.")) for name in names)
    whole = arrays(read_model(bodies["bert"]))
    assert all(np.array_equal(tensor.floats, whole[name]) for name, tensor in read_release(federation).items())
    made = play(federation)
    coldfuse.connect(tmp_path / "store").fetch(tmp_path / "got")
    model = load_body(bodies["bert"])
    tensors = {n: torch.from_numpy(a.copy()) for n, a in arrays(read_model(tmp_path / "got")).items()}
    assert not model.load_state_dict(tensors, strict=False).unexpected_keys
    name = "encoder.layer.1.output.dense.bias"
    assert np.allclose(tensors[name], whole[name] + (made[0][name] + made[1][name]) / 2, atol=1e-6)


def verdicts(events):
    rejected = {r.contributor: r.reason for e in events if isinstance(e, Rejected) for r in e.rejections}
    return rejected, {a.contributor: a.measured for e in events if isinstance(e, Admitted) for a in e.admissions}


def test_hostile_factors_are_rejected_and_the_round_goes_on(bodies, tmp_path):
    federation = make_shared_federation(tmp_path, bodies["llama"], LORA)
    schema = schema_of(federation)
    fair = [changes_of(schema, seed) for seed in range(2)]
    name_b = next(name for name in schema if "lora_B" in name)
    name_a = name_b.replace("lora_B", "lora_A")
    nan = fair[0] | {name_b: np.full(schema[name_b].shape, np.nan, np.float32)}
    huge = {name: np.zeros(spec.shape, np.float32) for name, spec in schema.items()} | {
        name_b: np.full(schema[name_b].shape, 6e4, np.float32), name_a: np.full(schema[name_a].shape, 6e4, np.float32)
    }  # fmt: skip
    for name, change in (("nan", nan), ("huge", huge), ("ada", fair[0]), ("bob", fair[1])):
        contribute(federation, name, change)
    events = lead(federation)
    rejected, admitted = verdicts(events)
    assert isinstance(events[-1], Published)
    assert sorted(admitted) == ["ada", "bob"]
    assert "NaN" in rejected["nan"]
    assert "changes its weight by up to" in rejected["huge"]


def test_the_same_module_in_other_factors_is_as_long_and_a_copy(bodies, tmp_path):
    """(cB, A/c) is (B, A): neither the length nor copying depends on how a module is written."""
    federation = make_shared_federation(tmp_path, bodies["llama"], LORA)
    start, schema = arrays(read_release(federation)), schema_of(federation)
    change = changes_of(schema, 1)
    trained = {name: start[name] + change[name] for name in schema}
    scaled = {name: tensor * (8 if "lora_B" in name else 1 / 8) for name, tensor in trained.items()}
    contribute(federation, "ada", change)
    contribute(federation, "copycat", {n: (scaled[n] - start[n]).astype(np.float32) for n in schema})
    events = lead(federation)
    rejected, admitted = verdicts(events)
    assert sorted([*admitted, *rejected]) == ["ada", "copycat"]
    [reason] = rejected.values()
    assert "copy" in reason or "same" in reason, reason


def test_an_adapter_of_another_rank_and_another_body_are_refused_in_one_line(bodies, tmp_path):
    zero = share(tmp_path / "zero", bodies["llama"], LORA)
    wide = share(tmp_path / "wide", bodies["llama"], "lora(rank=8)")
    with pytest.raises(SchemaMismatchError, match=r"its rank is 8, the federation's module has rank 4"):
        coldfuse.fuse(zero, [wide], out=tmp_path / "out")
    module = open_checkpoint(zero).module
    verify_body(bodies["llama"], module.body)
    with pytest.raises(UserInputError, match=r"another model .* than the body of this .*--body DIR") as refused:
        verify_body(bodies["bert"], module.body)
    assert "\n" not in str(refused.value)


def test_a_body_is_read_once_and_again_when_a_file_has_changed(bodies, tmp_path):
    module = open_checkpoint(share(tmp_path / "zero", bodies["bert"], LORA)).module
    said, note = [], tmp_path / "body.json"
    for _ in range(2):
        verify_body(bodies["bert"], module.body, note=note, tell=said.append)
    assert len(said) == 1
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bodies["bert"].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    model = read_model(copy)
    name = next(name for name, tensor in model.items() if tensor.spec.is_fused)
    write_file(copy / "model.safetensors", model | {name: floats(model[name].floats + 1)})
    with pytest.raises(UserInputError, match="another model"):
        verify_body(copy, module.body, note=note, tell=said.append)
    assert len(said) == 2


@pytest.mark.parametrize(
    ("method", "late", "why"),
    [
        ("mean then nesterov", "drop", "without outer steps"),
        ("fisher", "drop", "statistics"),
        ("mean", "rebase", "turned in every release"),
    ],
)
def test_what_makes_no_sense_on_products_is_refused_before_a_federation_is_made(bodies, tmp_path, method, late, why):
    zero = share(tmp_path / "zero", bodies["llama"], LORA)
    with pytest.raises(UserInputError, match=why):
        require_shareable(open_checkpoint(zero), read_recipe(method), late)
