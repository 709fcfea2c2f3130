"""Federations of language models: contributors with texts of their own make one base better for all of them."""

from itertools import pairwise

import peft
import pytest
import transformers
from fault.rounds import make_federation_of
from poems import POEMS
from safetensors.torch import load_file
from shared_modules import make_shared_federation
from task_rounds import aggregating, make_node, play_round
from tiny_texts import rows_of, write_json_lines, write_text_model

from coldfuse.consumer import fetch
from coldfuse.gateway import StoreGateway

NUM_ROUNDS = 3
SHARED = "lora(rank=4)"


def poets(federation, tmp_path, body=None):
    """A node for each poem."""
    nodes = {}
    for name, poem in POEMS.items():
        path = tmp_path / f"{name}.txt"
        path.write_text(poem)
        nodes[name] = make_node(federation, name, path, task="text-generation", folder=tmp_path / "nodes", body=body)
    return nodes


def assert_each_has_a_better_base_every_round(rounds, by):
    for name in POEMS:
        before = [scores[name][0] for scores in rounds]
        assert all(later < by * earlier for earlier, later in pairwise(before)), before
        assert all(after < start for start, after in (scores[name] for scores in rounds))


def test_the_perplexity_of_every_contributor_falls_from_round_to_round(tmp_path):
    base = write_text_model(tmp_path / "base", "gpt2")
    federation = make_federation_of(base, tmp_path / "store", quorum=len(POEMS))
    nodes = poets(federation, tmp_path)
    with aggregating(federation):
        rounds = [play_round(nodes) for _ in range(NUM_ROUNDS)]
    assert_each_has_a_better_base_every_round(rounds, by=0.95)
    assert federation.latest().release == NUM_ROUNDS

    fetch(StoreGateway(federation), tmp_path / "release")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "release")
    first = transformers.AutoModelForCausalLM.from_pretrained(base)
    assert all(loss(model, tmp_path / "release", poem) < loss(first, base, poem) - 0.3 for poem in POEMS.values())


def loss(model, folder, poem):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(poem[:100], return_tensors="pt").input_ids
    return model(input_ids=ids, labels=ids).loss.item()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
def test_the_perplexity_falls_where_a_lora_alone_is_shared_and_the_body_never_travels(tmp_path):
    body = write_text_model(tmp_path / "body", "llama")
    federation = make_shared_federation(tmp_path, body, SHARED, quorum=len(POEMS))
    nodes = poets(federation, tmp_path, body)
    with aggregating(federation):
        rounds = [play_round(nodes) for _ in range(2)]
    assert_each_has_a_better_base_every_round(rounds, by=1.0)

    fetch(StoreGateway(federation), tmp_path / "release")
    own = {path.name for path in (tmp_path / "release").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= own
    assert "model.safetensors" not in own
    first = transformers.AutoModelForCausalLM.from_pretrained(body)
    before = [loss(first, body, poem) for poem in POEMS.values()]
    model = peft.PeftModel.from_pretrained(first, tmp_path / "release")
    assert all(loss(model, body, p) < start for p, start in zip(POEMS.values(), before, strict=True))


@pytest.mark.parametrize(
    ("kind", "tasks"),
    [
        ("headless bert", ("fill-mask", "token-classification", "question-answering")),
        ("gpt2", ("text-generation(packed=no)", "instructions")),
        ("t5 v1.1", ("text2text-generation", "text2text-generation(private_head=yes)")),
    ],
)
def test_contributors_of_different_tasks_improve_one_base_in_one_round(tmp_path, kind, tasks):
    base = write_text_model(tmp_path / "base", kind)
    federation = make_federation_of(base, tmp_path / "store", quorum=len(tasks))
    nodes = {}
    for place, task in enumerate(tasks):
        name = f"node{place}"
        data = write_json_lines(tmp_path / f"{name}.jsonl", rows_of(task.partition("(")[0]))
        nodes[name] = make_node(federation, name, data, task=task, folder=tmp_path / "nodes")
    with aggregating(federation):
        play_round(nodes)
    assert federation.latest().release == 1
    assert len(federation.latest().contributions) == len(tasks)

    stored = load_file(base / "model.safetensors").keys()
    for (name, (node, _)), task in zip(nodes.items(), tasks, strict=True):
        work = tmp_path / "nodes" / name / "release-00000"
        sent = load_file(work / "delta.safetensors").keys()
        kept = load_file(work / "head.safetensors").keys()
        assert sent <= stored
        assert not sent & kept
        assert node.settings.task.name == task.partition("(")[0]
        assert ("lm_head.weight" in kept) == (task.endswith("(private_head=yes)"))
        assert ("lm_head.weight" in sent) == (task == "text2text-generation")
