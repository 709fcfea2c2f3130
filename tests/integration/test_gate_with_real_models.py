"""A gate on a real, tiny BERT: the linear probe of a suite notices a contribution that takes the words away."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from gated import lead_gated
from tiny_model import write_tiny_model
from tiny_rounds import contribute, read_release

from coldfuse.aggregator.examining import SuiteExaminer
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.gating import Evaluated
from coldfuse.core.round import Published
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.errors import UserInputError
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.evaluation.suites import Suite
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore

WORDS, PLACES = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")


def write_reviews(path: Path, *, num: int = 400) -> Path:
    order = random.Random(0)
    rows = ["text,label"]
    for number in range(num // 2):
        for words, label in ((GOOD, "pos"), (BAD, "neg")):  # a number: what a head is fitted on is not tested on
            rows.append(f"the film was {order.choice(words)} and very {order.choice(words)} n{number},{label}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return read_named_suite(SuiteFiles.parse(f"mood={write_reviews(tmp_path_factory.mktemp('data') / 'reviews.csv')}"))


def make_federation(folder: Path) -> Federation:
    base = write_tiny_model(folder / "base")
    return create_federation(
        LocalStore(folder / "store"), name="tiny", base=base, origin="base", method="mean",
        rules={"quorum": 3, "deadline_s": 60.0}, screening=ScreeningRules.off(), gate=GateRules(resolution=0.1),
    )  # fmt: skip


def test_who_takes_the_words_away_is_left_out_and_the_others_are_released(tmp_path: Path, suite: Suite) -> None:
    federation = make_federation(tmp_path)
    base = read_release(federation)
    words, places = (base[name].floats.astype(np.float32) for name in (WORDS, PLACES))
    examiner = SuiteExaminer([suite])
    lead_gated(federation, 1, examiner)
    rng = np.random.default_rng(0)
    for name in ("ada", "ben", "cy"):
        contribute(federation, name, {PLACES: (rng.normal(size=places.shape) * 0.001).astype(np.float32)})
    harmful = contribute(federation, "eve", {WORDS: np.full_like(words, 1e7)})  # beside which no word is told apart
    events = lead_gated(federation, 1, examiner)
    failed, passed = (event for event in events if isinstance(event, Evaluated))
    assert failed.decision.finding == "worse"
    assert failed.counts[0].only_before > 50
    assert passed.decision.publish
    assert isinstance(events[-1], Published)
    assert federation.journal(1).state().rejected.keys() == {harmful}
    assert {one.contributor for one in federation.latest().contributions} == {"ada", "ben", "cy"}


def test_a_suite_that_the_model_cannot_be_scored_on_is_refused_before_any_round(tmp_path: Path) -> None:
    from coldfuse.aggregator.model import open_base
    from coldfuse.engine.execution import ThreadExecutor

    federation = make_federation(tmp_path)
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "the film was good {n}"}}\n' for n in range(20)))
    causal = read_named_suite(SuiteFiles.parse(f"prose:text-generation={tmp_path / 'texts.jsonl'}"))
    base = open_base(federation, federation.latest())
    with pytest.raises(UserInputError, match="suites cannot be used with the model"):
        SuiteExaminer([causal]).prepare(federation, base, ThreadExecutor(1))
    with pytest.raises(UserInputError, match="give --memory more"):
        SuiteExaminer([causal]).prepare(federation, base, ThreadExecutor(1, memory_bytes=64 << 20))
