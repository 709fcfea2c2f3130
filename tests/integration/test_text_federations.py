"""Federations of language models: contributors with texts of their own make one base better for all of them."""


from fault.rounds import make_federation_of
from poems import POEMS
from task_rounds import aggregating, make_node, play_round
from tiny_texts import write_text_model

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
        assert all(later < 0.95 * earlier for earlier, later in zip(before, before[1:], strict=False)), before
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
