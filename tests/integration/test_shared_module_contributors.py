"""Contributors to federations that share a module: nodes, own training in Python, and a body of 70 billion weights."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import peft
import pytest
import torch
import transformers
from poems import POEMS
from reviews import write_reviews
from safetensors.torch import load_file
from shared_modules import body, make_shared_federation, products, share
from task_rounds import TRAINING, aggregating, make_node, play_round
from tiny_model import write_tiny_model
from tiny_rounds import lead, read_release
from tiny_texts import write_text_model

import coldfuse
from coldfuse.contributor.node import Node
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import Stopped, TrainingJob
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest

LORA = "lora(rank=2)"
QUICK = dataclasses.replace(TRAINING, num_epochs=2, learning_rate=1e-2)


def node_of(federation, name, data, **options):
    """Make a node that trains for as short as can be."""
    node, events = make_node(federation, name, data, **options)
    settings = dataclasses.replace(node.settings, training=QUICK)
    return Node(settings, node.folder, node.client, events.append, node.stop), events


def test_nodes_train_the_lora_of_a_language_model_and_every_perplexity_falls(tmp_path):
    base = write_text_model(tmp_path / "base", "llama")
    before = (base / "model.safetensors").read_bytes()
    federation = make_shared_federation(tmp_path, base, LORA)
    base = base.rename(tmp_path / "elsewhere")  # the contributors have the body where they like
    nodes = {}
    for name in sorted(POEMS)[:2]:
        (tmp_path / f"{name}.txt").write_text(POEMS[name])
        data, folder = tmp_path / f"{name}.txt", tmp_path / "nodes"
        nodes[name] = node_of(federation, name, data, task="text-generation", folder=folder, body=base)
    with aggregating(federation):
        rounds = [play_round(nodes) for _ in range(2)]
    assert federation.latest().release == 2
    for name in nodes:
        assert rounds[1][name][0] < rounds[0][name][0], rounds  # the release is what a round begins from
        assert all(after < start for start, after in (scores[name] for scores in rounds))
    for contribution in federation.latest().contributions:
        manifest = federation.objects.get_value(ContributionManifest, contribution.contribution)
        assert manifest.trained == "lora"
        assert manifest.delta.size_bytes < len(before) / 4
    assert (base / "model.safetensors").read_bytes() == before


def test_a_node_with_a_head_of_its_own_shares_the_lora_of_an_encoder(tmp_path):
    base = write_tiny_model(tmp_path / "base")
    federation = make_shared_federation(tmp_path, base, LORA, quorum=1)
    data = write_reviews(tmp_path / "reviews.csv", num=60)
    node = node_of(federation, "ada", data, task="text-classification", folder=tmp_path / "nodes")
    with aggregating(federation):
        play_round({"ada": node})
    assert all(".lora_" in name for name in read_release(federation))
    fused = products({name: tensor.floats for name, tensor in read_release(federation).items()})
    assert any(values.any() for values in fused.values())


def test_training_that_was_stopped_ends_in_the_same_bytes(tmp_path):
    base = write_tiny_model(tmp_path / "base")
    module = share(tmp_path / "module", base, LORA)
    data, task = write_reviews(tmp_path / "reviews.csv", num=40), find_task("text-classification")
    train, validation = set_apart(task, task.read(DataRequest(data=data)), seed=0)
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=open_checkpoint(base).schema.keys(), round=1, train=train,
        validation=validation, task=task, module_dir=module,
    )  # fmt: skip

    def tensors(made):
        with TensorReader(open_checkpoint(module).files.values()) as reader:
            changes = made.changes(reader.floats)
            return {n: c.read(0, reader.entry(n).spec.num_elements).tobytes() for n, c in changes.items()}

    whole = tensors(fine_tune(job, QUICK))
    steps: list[int] = []
    stopped = fine_tune(
        job, QUICK, checkpoint=tmp_path / "kept", progress=lambda event: steps.append(event.step),
        stop=lambda: steps[-1] == 3,
    )  # fmt: skip
    assert isinstance(stopped, Stopped)
    resumed = fine_tune(job, QUICK, checkpoint=tmp_path / "kept")
    assert resumed.resumed_at_step == stopped.step > 0
    assert tensors(resumed) == whole
    assert any(np.frombuffer(change).any() for change in whole.values())


def test_a_node_without_the_body_is_told_what_to_do(tmp_path):
    base = write_tiny_model(tmp_path / "base")
    federation = make_shared_federation(tmp_path, base, LORA, quorum=1)
    base.rename(tmp_path / "gone")
    data = write_reviews(tmp_path / "reviews.csv", num=20)
    node, _ = node_of(federation, "ada", data, task="text-classification", folder=tmp_path / "nodes")
    with aggregating(federation), pytest.raises(UserInputError, match=r"is not on this machine; .*--body DIR"):
        node.contribute()


def test_a_peft_model_is_contributed_from_python_whatever_class_the_body_is_in(tmp_path):
    folder = body(tmp_path, "bert")
    federation = make_shared_federation(tmp_path, folder, LORA)
    ends = []
    for name in ("ada", "bob"):
        connected = coldfuse.connect(tmp_path / "store")
        connected.fetch(tmp_path / name)
        config = transformers.AutoConfig.from_pretrained(folder, num_labels=3)
        torch.manual_seed(len(ends))
        classifier = transformers.BertForSequenceClassification.from_pretrained(folder, config=config)
        model = coldfuse.load_module(classifier, tmp_path / name)
        assert isinstance(model, peft.PeftModel)
        ids = torch.arange(8)[None]
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
        model(input_ids=ids, labels=torch.tensor([len(ends)])).loss.backward()
        optimizer.step()
        lead(federation)
        sent = connected.contribute(model, num_examples=10, name=name, wait=False)
        assert sent.delta_bytes < 40_000
        ends.append(model)
    lead(federation)
    assert federation.latest().release == 1
    shapes = {name: tensor.spec.shape for name, tensor in read_release(federation).items()}
    assert all(".lora_" in name for name in shapes)


def test_a_round_of_own_training_takes_the_module_in_and_sends_it(tmp_path):
    folder = body(tmp_path, "llama")
    federation = make_shared_federation(tmp_path, folder, LORA, quorum=1)
    connected = coldfuse.connect(tmp_path / "store")
    connected.fetch(tmp_path / "zero")
    model = coldfuse.load_module(transformers.AutoModelForCausalLM.from_pretrained(folder), tmp_path / "zero")
    ids = torch.arange(8)[None]
    with aggregating(federation):
        for _ in range(2):
            with connected.round(name="ada", work=tmp_path / "work") as round_:
                round_.load_into(model)
                taken = peft.get_peft_model_state_dict(model)
                release = load_file(round_.folder / "adapter_model.safetensors")
                assert all(torch.equal(tensor, release[name]) for name, tensor in taken.items())
                optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
                model(input_ids=ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                round_.contribute(model, num_examples=4)
    assert federation.latest().release == 2


def test_a_trainer_takes_part_with_a_shared_module(tmp_path, monkeypatch):
    folder = body(tmp_path, "llama")
    federation = make_shared_federation(tmp_path, folder, LORA, quorum=1)
    connected = coldfuse.connect(tmp_path / "store")
    connected.fetch(tmp_path / "zero")
    model = coldfuse.load_module(transformers.AutoModelForCausalLM.from_pretrained(folder), tmp_path / "zero")
    ids = torch.arange(8)
    settings = transformers.TrainingArguments(
        str(tmp_path / "out"), max_steps=2, learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=settings, train_dataset=[{"input_ids": ids, "labels": ids}] * 8)
    monkeypatch.chdir(tmp_path)
    with aggregating(federation):
        for _ in coldfuse.attach(trainer, connected, name="ada", rounds=2):
            trainer.train()
    assert federation.latest().release == 2
    assert all(".lora_" in name for name in read_release(federation))


_LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256,
    "tie_word_embeddings": False,
}  # fmt: skip

_INIT = """
import resource, sys
import torch, transformers, peft
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from coldfuse.cli.main import main
sys.argv = ["coldfuse", "init", *sys.argv[1:]]
try:
    main()
finally:
    print("used", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, file=sys.stderr)
"""


def write_hollow_70b(folder):
    """Write a body of 70 billion weights: all sizes are real, and the file is a hole of 141 GB."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_LLAMA_70B))
    width, inner, words, of_keys = 8192, 28672, 128256, 1024
    per_layer = {
        "input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,),
        "self_attn.q_proj.weight": (width, width), "self_attn.k_proj.weight": (of_keys, width),
        "self_attn.v_proj.weight": (of_keys, width), "self_attn.o_proj.weight": (width, width),
        "mlp.gate_proj.weight": (inner, width), "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
    }  # fmt: skip
    shapes = {"model.embed_tokens.weight": (words, width), "lm_head.weight": (words, width)}
    shapes |= {"model.norm.weight": (width,)}
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(80) for name, shape in per_layer.items()}
    head = format_header([(n, TensorSpec(dtype="BF16", shape=shape)) for n, shape in shapes.items()], {"format": "pt"})
    with open(folder / "model.safetensors", "wb") as file:
        file.write(head)
        file.truncate(len(head) + 2 * sum(int(np.prod(shape)) for shape in shapes.values()))
    return folder


def test_a_module_on_70_billion_weights_is_megabytes_and_init_reads_none_of_them(tmp_path):
    folder = write_hollow_70b(tmp_path / "llama-70b")
    assert (folder / "model.safetensors").stat().st_size > 141e9
    line = 'lora(rank=8, target_modules="q_proj,v_proj")'
    done = subprocess.run(
        [sys.executable, "-c", _INIT, str(tmp_path / "store"), "--base", str(folder), "--share", line,
         "--base-digest", "ab" * 32],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    release = coldfuse.connect(tmp_path / "store").releases()[0]
    stored = sum(file.stat().st_size for file in (tmp_path / "store").rglob("*") if file.is_file())
    assert 60e6 < stored < 70e6  # 80 layers × 8 × (2 × 8192 + 8192 + 1024) numbers of 4 bytes
    assert release.name.number == 0
    fetched = coldfuse.connect(tmp_path / "store").fetch(tmp_path / "got")
    schema = open_checkpoint(tmp_path / "got").schema
    head = delta_header(schema, schema, encoding="BF16", base_digest=fetched.digest)
    assert 30e6 < parse_header(head[8:], what="a contribution").file_bytes < 35e6
    assert int(done.stderr.rpartition("used ")[2]) < 600  # MiB
