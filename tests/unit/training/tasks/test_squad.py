import random
import re
import string
from collections import Counter
from itertools import product

import pytest

from coldfuse.training.tasks.squad import (
    Question,
    best_answer,
    exact_match,
    find_span,
    normalise,
    overlap_f1,
    parse_question,
)


def official_normalise(text):
    """The rules of SQuAD's evaluation script, one after the other."""
    text = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(gold, predicted):
    gold_words, words = official_normalise(gold).split(), official_normalise(predicted).split()
    same = sum((Counter(gold_words) & Counter(words)).values())
    if not gold_words or not words:
        return int(gold_words == words)
    if not same:
        return 0
    precision, recall = same / len(words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_the_official_rules(seed):
    rng = random.Random(seed)
    words = ["The", "a", "Eiffel", "tower!", "in", "Paris,", "1889", "an", "apple", "--", "tower"]

    def phrase():
        return " ".join(rng.choice(words) for _ in range(rng.randint(0, 5)))

    for _ in range(50):
        predicted, golds = phrase(), [phrase() for _ in range(rng.randint(0, 3))]
        assert normalise(predicted) == official_normalise(predicted)
        known = [gold for gold in golds if official_normalise(gold)] or [""]
        assert exact_match(predicted, golds) == max(
            official_normalise(gold) == official_normalise(predicted) for gold in known
        )
        assert overlap_f1(predicted, golds) == pytest.approx(max(official_f1(gold, predicted) for gold in known))


CONTEXT = "Ada wrote a program, and Ada wrote letters."


@pytest.mark.parametrize(
    "row",
    [
        {"answers": {"text": ["Ada", "a program"], "answer_start": [0, 10]}},
        {"answers": '{"text": ["Ada", "a program"], "answer_start": [0, 10]}'},
        {"answers": "{'text': ['Ada', 'a program'], 'answer_start': [0, 10]}"},
        {"answers": [{"text": "Ada", "answer_start": 0}, {"text": "a program", "answer_start": 10}]},
        {"answers": {"text": ["Ada", "a program"]}},
    ],
)
def test_answers_are_read_in_every_form_that_files_have(row):
    [question] = parse_question({"question": "Who?", "context": CONTEXT, **row})
    assert (question.answers, question.starts) == (("Ada", "a program"), (0, 10))


@pytest.mark.parametrize("answers", [None, "", [], {}, {"text": [], "answer_start": []}, "[]"])
def test_no_answer_is_a_question_without_one(answers):
    [question] = parse_question({"question": "Who?", "context": CONTEXT, "answers": answers})
    assert question.answers == ()


def test_of_several_places_the_one_next_to_the_said_one_counts():
    [question] = parse_question({"question": "?", "context": CONTEXT, "answers": "Ada", "answer_start": 24})
    assert question.starts == (25,)
    [question] = parse_question({"question": "?", "context": CONTEXT, "answers": "Ada"})
    assert question.starts == (0,)


def test_articles_of_squads_own_files_are_many_questions():
    asked = [{"question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}, {"question": "Why?", "answers": []}]
    found = list(parse_question({"paragraphs": [{"context": CONTEXT, "qas": asked}] * 2}))
    assert [question.question for question in found] == ["Who?", "Why?"] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"answers": "SECRET"}, "does not stand in its context"),
        ({"answers": {"text": ["Ada"], "answer_start": [0, 1]}}, "other numbers"),
        ({"answers": {"text": [7], "answer_start": [0]}}, "empty or no text"),
        ({"answers": 7}, "answers are int"),
        ({"question": " ", "answers": "Ada"}, "question is empty"),
        ({"context": None, "answers": "Ada"}, "context is empty"),
        ({"paragraphs": [{"context": "SECRET"}]}, "`context` and `qas`"),
        ({"paragraphs": [{"context": "SECRET", "qas": ["SECRET"]}]}, "`question` and `answers`"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_without_showing_it(row, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        list(parse_question({"question": "Who is SECRET?", "context": CONTEXT, **row}))
    assert "SECRET" not in str(caught.value)


def test_an_answer_that_a_window_cuts_is_not_in_it():
    question = Question(question="?", context="one two three", answers=("two three",), starts=(4,))
    places = [None, (0, 3), (4, 7), (8, 13)]
    assert find_span(places, question) == (2, 3)
    assert find_span(places[:3], question) == (0, 0)
    assert find_span([None, (8, 13)], question) == (0, 0)


@pytest.mark.parametrize("may_be_none", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_answer_is_that_of_an_exhaustive_search(seed, may_be_none):
    rng = random.Random(seed)
    context = "abcdefghijkl"
    windows = []
    for first in (0, 4):
        places = [None, None, *((first + i, first + i + 1) for i in range(8))]
        windows.append((places, *([rng.uniform(-1, 1) for _ in places] for _ in range(2))))
    spans = [
        (starts[i] + ends[j], context[places[i][0] : places[j][1]])
        for places, starts, ends in windows
        for i, j in product(range(2, 10), repeat=2)
        if i <= j < i + 3
    ]
    score, answer = max(spans)
    nothing = min(starts[0] + ends[0] for _, starts, ends in windows)
    expected = "" if may_be_none and nothing > score else answer
    assert best_answer(windows, context, may_be_none=may_be_none, longest=3) == expected


@pytest.mark.parametrize("start", [25, 25.0, "25", "25.0", " 25 "])
def test_an_answer_stands_where_it_is_said_however_a_table_writes_numbers(start):
    (question,) = parse_question({"question": "Who?", "context": CONTEXT, "answers": "Ada", "answer_start": start})
    assert question.starts == (25,)


@pytest.mark.parametrize("start", [None, float("nan"), float("inf"), "inf", "", "there", 10**400, [25]])
def test_a_place_that_is_none_leaves_the_first(start):
    (question,) = parse_question({"question": "Who?", "context": CONTEXT, "answers": "Ada", "answer_start": start})
    assert question.starts == (0,)


@pytest.mark.parametrize("starts", [[25, 4], "[25, 4]"])
def test_lists_of_answers_and_places_in_two_columns_belong_together(starts):
    row = {"question": "Who?", "context": CONTEXT, "answers": ["Ada", "wrote"], "answer_start": starts}
    (question,) = parse_question(row)
    assert question.starts == (25, 4)
