"""coldfuse's own rules of roots and channels against python-tuf, which defines them: both believe or both refuse.

A channel is held against a timestamp: both name what is newest, with a version and an expiry.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode
from dataclasses import replace

import pytest
from tuf_histories import History, OwnClient, Pointing, Step, outcomes, own_envelope, own_root

from coldfuse.core.serialization import canonical_json

NUM_SEEDS, PER_SEED = 8, 25


def random_history(rng: random.Random) -> History:
    """Return a history that is honest for the most part: else little of it would be looked at."""
    num_keys = rng.randint(1, 4)
    keys, content = tuple(rng.sample(range(6), num_keys)), 0
    step = Step(version=1, keys=keys, threshold=rng.randint(1, num_keys), signers=keys)
    history, counter = History([]), 0
    for _ in range(rng.randint(1, 5)):
        history.steps.append(step)
        looks = []
        for _ in range(rng.randint(1, 3)):
            counter, content = counter + rng.choice([1, 1, 1, 0, -1, 1000]), content + 1
            looks.append(random_pointing(rng, step, max(counter, 1), content))
        history.looks.append(looks)
        step = random_next(rng, step)
    return history


def random_pointing(rng: random.Random, step: Step, version: int, content: int) -> Pointing:
    signers = step.channel_keys if rng.random() < 0.85 else tuple(rng.sample(range(8), rng.randint(0, 2)))
    return Pointing(version=version, signers=signers, days=rng.choice([7, 7, 7, -1]), content=content)


def random_next(rng: random.Random, step: Step) -> Step:
    kept = [number for number in step.keys if rng.random() < 0.7]
    new = tuple(dict.fromkeys([*kept, *rng.sample(range(6), rng.randint(1, 2))]))
    threshold = rng.randint(1, len(new))
    signers = tuple(dict.fromkeys([*step.keys, *new]))
    found = Step(
        version=step.version + 1, keys=new, threshold=threshold, signers=signers,
        channel_keys=step.channel_keys if rng.random() < 0.7 else (step.channel_keys[0] + 1,),
        days=rng.choice([30, 30, 30, -1]),
    )  # fmt: skip
    match rng.choice(["honest"] * 5 + ["few", "spoilt", "doubled", "version", "twice", "threshold", "extra"]):
        case "few":
            found = replace(found, signers=tuple(n for n in signers if rng.random() < 0.5))
        case "spoilt":
            found = replace(found, spoilt=tuple(n for n in signers if rng.random() < 0.4))
        case "doubled":
            found = replace(found, is_doubled=True)
        case "version":
            found = replace(found, version=step.version + rng.choice([0, 2, 100]))
        case "twice":
            found = replace(found, keys=(*new, new[0]))
        case "threshold":
            found = replace(found, threshold=len(new) + 1)
        case "extra":
            found = replace(found, signers=tuple(range(8)))
    return found


ROTATIONS: dict[str, tuple[list[tuple[str, int, str]], bool]] = {
    "one key for another": ([("1", 1, "1"), ("2", 1, "12"), ("2", 1, "2")], True),
    "signatures of others beside": ([("1", 1, "314"), ("2", 1, "3214")], True),
    "not by the old key": ([("1", 1, "1"), ("2", 1, "234")], False),
    "not by the new key": ([("1", 1, "1"), ("2", 1, "134")], False),
    "other three of five": ([("01234", 3, "024"), ("01234", 3, "041"), ("01234", 3, "013")], True),
    "one of five is new": ([("01234", 3, "024"), ("01345", 3, "041")], True),
    "one of five is new, too few of the new": ([("01234", 3, "024"), ("01345", 3, "024")], False),
    "one of five is new, too few of the old": ([("01234", 3, "024"), ("01345", 3, "045")], False),
    "all are new at once": ([("012", 2, "02"), ("345", 2, "0234"), ("345", 2, "35")], True),
    "all are new, too few of the old": ([("012", 2, "02"), ("345", 2, "0345")], False),
    "more have to sign": ([("123", 1, "1"), ("123", 2, "12")], True),
    "more have to sign, and have not": ([("123", 1, "1"), ("123", 2, "2")], False),
    "fewer have to sign": ([("123", 2, "12"), ("123", 1, "12"), ("123", 1, "1")], True),
    "fewer have to sign, and too few did before": ([("123", 2, "12"), ("123", 1, "1")], False),
    "nobody signs": ([("1", 1, "1"), ("1", 1, "")], False),
}


def steps_of(rotation: list[tuple[str, int, str]]) -> list[Step]:
    return [
        Step(version=number, keys=tuple(map(int, keys)), threshold=threshold, signers=tuple(map(int, signers)))
        for number, (keys, threshold, signers) in enumerate(rotation, 1)
    ]


@pytest.mark.parametrize("name", ROTATIONS)
def test_keys_are_replaced_as_by_tuf(name: str) -> None:
    rotation, is_believed = ROTATIONS[name]
    steps = steps_of(rotation)
    looks: list[list[Pointing]] = [[] for _ in steps]
    looks[-1] = [Pointing(version=1)]
    assert outcomes(History(steps, looks)) == ([is_believed], [is_believed])


FIRST, SECOND = steps_of([("1", 1, "1"), ("1", 1, "1")])
THIRD = replace(SECOND, version=3)
UPDATES: dict[str, tuple[History, list[bool]]] = {
    "an expired root before the newest": (
        History([FIRST, replace(SECOND, days=-1), THIRD], [[], [], [Pointing(version=1)]]), [True]
    ),
    "the newest root has expired": (History([FIRST, replace(SECOND, days=-1)], [[], [Pointing(version=1)]]), [False]),
    "until it is renewed": (
        History(
            [FIRST, replace(SECOND, days=-1), THIRD],
            [[], [Pointing(version=1)], [Pointing(version=1, content=1)]],
        ), [False, True],
    ),
    "a root between is signed by nobody": (
        History([FIRST, replace(SECOND, signers=()), THIRD], [[], [], [Pointing(version=1)]]), [False]
    ),
    "the same root again": (History([FIRST, replace(SECOND, version=1)], [[], [Pointing(version=1)]]), [False]),
    "a root is left out": (History([FIRST, replace(SECOND, version=3)], [[], [Pointing(version=1)]]), [False]),
    "a pointer that nobody has signed": (History([FIRST], [[Pointing(version=1, signers=())]]), [False]),
    "a pointer goes back": (
        History([FIRST], [[Pointing(version=2), Pointing(version=1, content=1), Pointing(version=3, content=2)]]),
        [True, False, True],
    ),
    "a pointer of the same version says something else": (
        History([FIRST], [[Pointing(version=2), Pointing(version=2, content=1)]]), [True, False]
    ),
    "a pointer has expired": (History([FIRST], [[Pointing(version=1, days=-1)]]), [False]),
    "fast forward, and the key is replaced": (
        History(
            [FIRST, replace(SECOND, channel_keys=(8,))],
            [[Pointing(version=99_999), Pointing(version=2)], [Pointing(version=2, signers=(8,), content=1)]],
        ), [True, False, True],
    ),
    "fast forward, and another key is beside it": (
        History(
            [FIRST, replace(SECOND, channel_keys=(7, 8))],
            [[Pointing(version=99_999)], [Pointing(version=2, signers=(8,), content=1)]],
        ), [True, False],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
def test_updates_are_followed_as_by_tuf(name: str) -> None:
    history, expected = UPDATES[name]
    assert outcomes(history) == (expected, expected)


def test_a_key_under_two_names_counts_once() -> None:
    """python-tuf believes the name that a root gives to a key; here it is computed."""
    step = FIRST
    document = json.loads(b64decode(json.loads(own_root(replace(step, keys=(1, 2), threshold=1)))["payload"]))
    first, second = document["roles"]["root"]["keys"]
    document["keys"][second] = document["keys"][first]
    document["roles"]["root"]["threshold"] = 2
    root = own_envelope(canonical_json(document), "root", replace(step, signers=(1, 2)))
    assert not OwnClient(root).refresh([root], Pointing(version=1))


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_random_histories_are_believed_and_refused_alike(seed: int) -> None:
    rng, believed, refused = random.Random(seed), 0, 0
    for _ in range(PER_SEED):
        history = random_history(rng)
        theirs, ours = outcomes(history)
        assert ours == theirs, history
        believed, refused = believed + sum(ours), refused + len(ours) - sum(ours)
    assert min(believed, refused) > PER_SEED / 2  # both are looked at
