import random

import pytest

from coldfuse.training.tasks.words import entity_f1, parse_sentence


def entities(tags):
    """Chunks as conlleval takes them: a new one at B, at another type, or at I after O."""
    found, start, kind = set(), None, None
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if kind is not None and (mark in ("O", "B") or name != kind):
            found.add((start, place, kind))
            kind = None
        if mark != "O" and kind is None:
            start, kind = place, name
    return found


@pytest.mark.parametrize("seed", range(20))
def test_entity_f1_is_that_of_whole_chunks(seed):
    rng = random.Random(seed)
    tags = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    gold, predicted = ([[rng.choice(tags) for _ in range(12)] for _ in range(5)] for _ in range(2))
    true = {(n, *e) for n, sentence in enumerate(gold) for e in entities(sentence)}
    found = {(n, *e) for n, sentence in enumerate(predicted) for e in entities(sentence)}
    assert entity_f1(gold, predicted) == pytest.approx(2 * len(true & found) / max(len(true) + len(found), 1))
    assert entity_f1(gold, gold) == float(bool(true))


def test_tags_that_name_no_chunks_count_word_by_word():
    assert entity_f1([["NOUN", "NOUN", "VERB", "O"]], [["NOUN", "VERB", "VERB", "O"]]) == pytest.approx(2 / 3)


def test_no_entity_at_all_scores_nothing():
    assert entity_f1([["O", "O"]], [["O", "O"]]) == 0.0


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"tokens": ["EU", "won"], "tags": ["B-ORG", "O"]}, ()),
        ({"tokens": "EU won", "tags": "B-ORG O"}, ()),
        ({"tokens": '["EU", "won"]', "tags": "['B-ORG', 'O']"}, ()),
        ({"tokens": ["EU", "won"], "tags": [1, 0]}, ("O", "B-ORG")),
        ({"tokens": ["EU", "won"], "tags": ["1", "0"]}, ("O", "B-ORG")),
        ({"tokens": ["EU", "won"], "tags": ["B-ORG", "O"]}, ("O", "B-ORG")),
    ],
)
def test_words_and_tags_are_read_in_every_form_that_files_have(row, names):
    [sentence] = parse_sentence(row, names)
    assert (sentence.words, sentence.tags) == (("EU", "won"), ("B-ORG", "O"))


def test_a_sentence_without_words_is_none():
    assert list(parse_sentence({"tokens": [], "tags": []})) == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["SECRET", "x"], "tags": ["O"]}, "2 words with 1 tag;"),
        ({"tokens": 7, "tags": ["O"]}, "list of words.* got int"),
        ({"tokens": ["SECRET"], "tags": None}, "list of tags.* got NoneType"),
        ({"tokens": ["SECRET"], "tags": [5]}, "number 5, and there are 2 names"),
        ({"tokens": ["SECRET"], "tags": [0.5]}, "empty or no name"),
        ({"tokens": ["SECRET"], "tags": [""]}, "empty or no name"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_without_showing_it(row, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        list(parse_sentence(row, ("O", "B-ORG")))
    assert "SECRET" not in str(caught.value)
