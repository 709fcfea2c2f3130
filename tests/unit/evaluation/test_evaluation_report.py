"""From trials to means, spread and comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldfuse.api.evaluated import EvaluationResult
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import CodecError
from coldfuse.evaluation.protocols import Model
from coldfuse.evaluation.report import report
from coldfuse.evaluation.settings import Protocol, ScoringSettings
from coldfuse.evaluation.suites import Suite
from coldfuse.evaluation.table import as_table
from coldfuse.evaluation.trials import Place, Plan, places
from coldfuse.evaluation.values import Evaluation, TestScore, Trial
from coldfuse.training.feature_cache import FeatureCache

SHOTS = Protocol(kind="probe", shots=4)


def texts(count: int, first: int = 0) -> TextDataset:
    return TextDataset(
        texts=tuple(map(str, range(first, first + count))), labels=(0, 1) * (count // 2), label_names=("a", "b")
    )


def plan_of(*suites: Suite, digests: str = "ab", protocol: Protocol = SHOTS, seeds: tuple[int, ...] = (0, 1)) -> Plan:
    models = tuple(Model(name=f"m{n}", folder=Path(), digest=d * 64) for n, d in enumerate(digests))
    return Plan(
        models=models, suites=suites, protocols=(protocol,), seeds=seeds, settings=ScoringSettings(), folder=Path(),
        cache=FeatureCache(folder=Path()),
    )  # fmt: skip


def suite(name: str, *tests: str, first: int = 0) -> Suite:
    return Suite(
        name=name, task="text-classification", train=texts(8, first=900),
        tests={test: texts(20, first=first + 100 * place) for place, test in enumerate(tests or ("",))},
    )  # fmt: skip


def scores_of(right: int, test: str = "") -> TestScore:
    """So many of 20 are right."""
    return TestScore(test=test, value=right / 20, outcomes=(1.0,) * right + (0.0,) * (20 - right))


def made(plan: Plan, right: dict[tuple[int, int], int]) -> Evaluation:
    """Report trials by how many the model gets right with the seed, on every test set."""
    trials = {
        place: Trial(
            identity="0" * 64, num_train=4,
            scores=tuple(scores_of(right[place.model, place.seed], test) for test in plan.suites[place.suite].tests),
        )
        for place in places(plan)
    }  # fmt: skip
    return report(plan, trials)


def test_mean_and_spread_are_over_the_seeds() -> None:
    found = made(plan_of(suite("films")), {(0, 0): 10, (0, 1): 14, (1, 0): 20, (1, 1): 20})
    first, second = found.scores
    assert (first.scores, first.mean) == ((0.5, 0.7), pytest.approx(0.6))
    assert first.spread == pytest.approx(0.1414, abs=1e-4)
    assert (second.mean, second.spread) == (1.0, 0.0)
    assert "60.0 ± 14.1" in "\n".join(as_table(found))


def test_two_seeds_are_no_more_examples_than_one() -> None:
    [row] = made(plan_of(suite("films")), {(0, 0): 10, (0, 1): 10, (1, 0): 20, (1, 1): 20}).comparisons
    assert (row.num_examples, row.only_before, row.only_after) == (20, 0, 10)
    assert row.verdict == "better"
    assert row.difference == pytest.approx(0.5)


def test_no_winner_where_the_seeds_disagree() -> None:
    [row] = made(plan_of(suite("films")), {(0, 0): 2, (0, 1): 12, (1, 0): 20, (1, 1): 11}).comparisons
    assert row.verdict == "not enough data"
    assert "the seeds disagree: +18, -1" in row.reason


def test_all_data_together_come_last_and_count_no_example_twice() -> None:
    right = {(0, 0): 10, (0, 1): 10, (1, 0): 14, (1, 1): 14}
    rows = made(plan_of(suite("films"), suite("books", first=500), suite("films again")), right).comparisons
    assert [row.data for row in rows] == ["films", "books", "films again", None]
    assert [row.num_examples for row in rows] == [20, 20, 20, 40]
    assert all(row.p == 1.0 or row.p > 0.125 for row in rows[:3])  # three were looked at
    assert rows[-1].p == pytest.approx(2 * 0.5**8)


def test_a_model_and_itself_need_no_test() -> None:
    [row] = made(plan_of(suite("films"), digests="aa"), {(m, s): 9 for m in (0, 1) for s in (0, 1)}).comparisons
    assert (row.verdict, row.reason) == ("no difference seen", "the same model, file for file")


def test_what_changes_elsewhere_is_said_against_the_first_test_set() -> None:
    plan = plan_of(suite("films", "", "books"), digests="a", protocol=Protocol(kind="probe"))
    trials = {
        place: Trial(identity="0" * 64, num_train=8, scores=(scores_of(18), scores_of(12, "books")))
        for place in places(plan)
    }
    found = report(plan, trials)
    assert [row.data for row in found.scores] == ["films", "films → books"]
    assert (found.scores[0].change, found.scores[1].change) == (None, pytest.approx(-0.3))
    assert "60.0 (−30.0)" in "\n".join(as_table(found))


def test_a_metric_without_scores_of_examples_gives_no_comparison_and_a_note() -> None:
    plan = plan_of(suite("films"), protocol=Protocol(kind="probe"))
    blank = TestScore(test="", value=0.5, outcomes=None)
    found = report(plan, {place: Trial(identity="0" * 64, num_train=8, scores=(blank,)) for place in places(plan)})
    assert not found.comparisons
    assert any("no test compares" in note for note in found.notes)


def test_a_result_is_written_and_read_and_damage_is_refused(tmp_path: Path) -> None:
    found = made(plan_of(suite("films")), {(m, s): 9 + m for m in (0, 1) for s in (0, 1)})
    result = EvaluationResult.model_validate(found.model_dump())
    result.save(tmp_path / "result.json")
    assert EvaluationResult.load(tmp_path / "result.json") == result
    (tmp_path / "result.json").write_text('{"form": "coldfuse-evaluation/1"')
    with pytest.raises(CodecError):
        EvaluationResult.load(tmp_path / "result.json")


def test_names_that_act_on_a_terminal_are_shown_without_that() -> None:
    plan = plan_of(suite("fi\x1b[2Jlms"))
    assert "\x1b" not in "\n".join(as_table(made(plan, {(m, s): 9 for m in (0, 1) for s in (0, 1)})))


def test_places_go_model_by_model_and_what_draws_nothing_runs_once() -> None:
    plan = plan_of(suite("films"), protocol=Protocol(kind="probe"))
    assert places(plan) == [Place(model=model, suite=0, protocol=Protocol(kind="probe"), seed=0) for model in (0, 1)]
