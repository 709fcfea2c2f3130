import random
from itertools import pairwise

import pytest

from coldfuse.training.tasks.blocks import blocks_of
from coldfuse.training.tasks.texts import cut_document


def documents(seed):
    rng = random.Random(seed)
    lengths = [rng.choice([0, 1, 2, 5, 13]) for _ in range(8)]
    numbers = iter(range(1000))
    return [[next(numbers) for _ in range(length)] for length in lengths]


def ids(blocks):
    return [feature["input_ids"] for feature in blocks]


@pytest.mark.parametrize("size", [2, 3, 7, 100])
@pytest.mark.parametrize("seed", range(5))
def test_packed_blocks_are_full_and_predict_every_token_but_the_first_once(seed, size):
    stream = [token for document in documents(seed) for token in document]
    blocks = ids(blocks_of(((d, True) for d in documents(seed)), size=size, packed=True, overlap=1))
    assert [token for block in blocks for token in block[1:]] == stream[1:]
    assert all(len(block) == size for block in blocks[:-1])
    assert all(left[-1] == right[0] for left, right in pairwise(blocks))


@pytest.mark.parametrize("size", [2, 3, 7, 100])
@pytest.mark.parametrize("seed", range(5))
def test_without_packing_no_block_holds_two_documents_and_no_token_is_lost(seed, size):
    blocks = ids(blocks_of(((d, True) for d in documents(seed)), size=size, packed=False))
    owner = {token: number for number, document in enumerate(documents(seed)) for token in document}
    assert all(len({owner[token] for token in block}) == 1 for block in blocks)
    assert [token for block in blocks for token in block] == sorted(owner)
    assert max(map(len, blocks)) <= size


def test_passages_of_one_document_are_one_sequence():
    passages = [([1, 2], True), ([3], False), ([4, 5], True)]
    assert ids(blocks_of(passages, size=4, packed=False)) == [[1, 2, 3], [4, 5]]


def test_no_documents_are_no_blocks():
    assert ids(blocks_of([([], True)], size=4, packed=True)) == []


def test_blocks_can_be_taken_and_sliced():
    blocks = blocks_of([([1, 2, 3, 4, 5], True)], size=2, packed=True)
    assert ids(blocks.take([2, 0])) == [[5], [1, 2]]
    assert ids(blocks[1:]) == [[3, 4], [5]]
    assert ids(blocks.at_least(2)) == [[1, 2], [3, 4]]
    assert [feature["length"] for feature in blocks] == [2, 2, 1]


@pytest.mark.parametrize("size", [1, 7, 40, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_document_in_passages_is_the_same_text(seed, size):
    rng = random.Random(seed)
    text = "".join(rng.choice(["word", "s", " ", "\n", "\n\n", "ünï", "😀"]) for _ in range(200))
    passages = list(cut_document(text, size))
    assert "".join(passage.text for passage in passages) == text
    assert all(0 < len(passage.text) <= size for passage in passages)
    assert [passage.begins for passage in passages] == [True] + [False] * (len(passages) - 1)
    assert [passage.ends for passage in passages] == [False] * (len(passages) - 1) + [True]
