"""Federations of language models: contributors with texts of their own make one base better for all of them."""

from itertools import pairwise

import pytest
from fault.rounds import make_federation_of
from poems import POEMS
from safetensors.torch import load_file
from task_rounds import aggregating, make_node, play_round
from tiny_texts import rows_of, write_json_lines, write_text_model

from coldfuse.consumer import fetch
from coldfuse.gateway import StoreGateway

NUM_ROUNDS = 3


def test_the_perplexity_of_every_contributor_falls_from_round_to_round(tmp_path):
    base = write_text_model(tmp_path / "base", "gpt2")
    federation = make_federation_of(base, tmp_path / "store", quorum=len(POEMS))
    nodes = {}
    for name, poem in POEMS.items():
        (tmp_path / f"{name}.txt").write_text(poem)
        nodes[name] = make_node(
            federation, name, tmp_path / f"{name}.txt", task="text-generation", folder=tmp_path / "nodes"
        )
    with aggregating(federation):
        rounds = [play_round(nodes) for _ in range(NUM_ROUNDS)]
    for name in POEMS:
        before = [scores[name][0] for scores in rounds]
        assert all(later < 0.95 * earlier for earlier, later in pairwise(before)), before
        assert all(after < start for start, after in (scores[name] for scores in rounds))
    release = federation.latest()
    assert release.release == NUM_ROUNDS

    fetch(StoreGateway(federation), tmp_path / "release")
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "release")
    first = transformers.AutoModelForCausalLM.from_pretrained(base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "release")
    for poem in POEMS.values():
        ids = tokenizer(poem[:100], return_tensors="pt").input_ids
        assert model(input_ids=ids, labels=ids).loss < first(input_ids=ids, labels=ids).loss - 0.3


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
