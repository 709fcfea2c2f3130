from __future__ import annotations

import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from tiny_rounds import floats, parse_file, write_model

from coldfuse.data.dataset import TextDataset, halves
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.errors import FusionError, UserInputError
from coldfuse.search.methods import SEARCHES, read_search
from coldfuse.search.scored import greedy_soup, parse_grid, tune
from coldfuse.search.trials import Found
from coldfuse.tensors.checkpoint import open_checkpoint

EXECUTOR = ThreadExecutor(1)


def value(folder: Path) -> float:
    return float(parse_file((folder / "model.safetensors").read_bytes())["a"].floats[0])


def table(scores: dict[float, float]) -> Callable[[Path], float]:
    """A score that is known for each model, which is one number."""
    return lambda folder: scores[round(value(folder), 2)]


def models(tmp_path: Path, *values: float) -> list[Path]:
    write_model(tmp_path / "base", {"a": floats([0.0])})
    return [write_model(tmp_path / f"m{number:g}", {"a": floats([number])}) for number in values]


def asked(tmp_path: Path, given: list[Path], method: str, **more: object) -> FolderFusion:
    return FolderFusion(base=tmp_path / "base", models=given, out=tmp_path / "out", recipe=read_search(method), **more)  # type: ignore[arg-type]


def lines(found: Found) -> list[tuple[str, float, bool]]:
    return [(Path(trial.what).name, trial.score, trial.kept) for trial in found.trace]


SCORES = {8: 0.7, 4: 0.6, -2: 0.5, 6: 0.8, 3.33: 0.8}
"""Of three models, of the mean of the first two (6), and of all three."""


def test_a_greedy_soup_keeps_what_makes_it_better_best_first(tmp_path: Path) -> None:
    given = models(tmp_path, -2, 8, 4)
    found = greedy_soup(asked(tmp_path, given, "greedy-soup"), table(SCORES), EXECUTOR)
    assert lines(found) == [("m8", 0.7, True), ("m4", 0.8, True), ("m-2", 0.8, False)]
    assert (found.score, found.weights) == (0.8, (0.0, 0.5, 0.5))
    assert fuse_folders(found.request, EXECUTOR).digest == open_checkpoint(tmp_path / "out").digest()
    assert value(tmp_path / "out") == 6
    assert sorted(os.listdir(tmp_path)) == ["base", "m-2", "m4", "m8", "out"]


def test_a_model_that_changes_nothing_stays_only_if_that_is_asked_for(tmp_path: Path) -> None:
    given = models(tmp_path, -2, 8, 4)
    found = greedy_soup(asked(tmp_path, given, "greedy-soup(keep=equal)"), table(SCORES), EXECUTOR)
    assert found.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_a_soup_goes_on_behind_a_model_that_was_left_out(tmp_path: Path) -> None:
    given = models(tmp_path, 8, 4, -2)
    found = greedy_soup(asked(tmp_path, given, "greedy-soup"), table(SCORES | {6: 0.1, 3: 0.9}), EXECUTOR)
    assert found.weights == (0.5, 0.0, 0.5)
    assert found.score == 0.9


@pytest.mark.parametrize("same_score", [False, True])
def test_a_soup_does_not_depend_on_the_order_of_models(tmp_path: Path, same_score: bool) -> None:
    given = models(tmp_path, 8, 4, -2)

    def score(folder: Path) -> float:
        return -((value(folder) - 3) ** 2) if not same_score else float(value(folder) in (8, 4, -2))

    found = [greedy_soup(asked(tmp_path, list(order), "greedy-soup"), score, EXECUTOR) for order in permutations(given)]
    kept = {
        frozenset(m for m, w in zip(order, f.weights, strict=True) if w)
        for order, f in zip(permutations(given), found, strict=True)
    }
    assert len(kept) == 1
    assert len({f.trace for f in found}) == 1


def test_a_soup_is_never_worse_than_its_best_model(tmp_path: Path) -> None:
    given = models(tmp_path, 5, -7, 2, 11)
    for target in (-9, -3, 0, 2.4, 6, 20):

        def score(folder: Path, target: float = target) -> float:
            return -abs(value(folder) - target)

        found = greedy_soup(asked(tmp_path, given, "greedy-soup"), score, EXECUTOR)
        assert found.score >= max(-abs(v - target) for v in (5, -7, 2, 11))


def test_a_search_stands_between_transforms_and_outers(tmp_path: Path) -> None:
    given = models(tmp_path, 8, 4)
    request = asked(tmp_path, given, "clip(norm=4) then greedy-soup then interpolate(alpha=0.25)")
    found = greedy_soup(request, value, EXECUTOR)
    fuse_folders(found.request, EXECUTOR)
    assert value(tmp_path / "out") == 1


def test_what_is_not_a_score_ends_the_search_and_leaves_nothing(tmp_path: Path) -> None:
    given = models(tmp_path, 8, 4)
    with pytest.raises(FusionError, match="score is nan"):
        greedy_soup(asked(tmp_path, given, "greedy-soup"), lambda _: float("nan"), EXECUTOR)
    with pytest.raises(ZeroDivisionError):
        greedy_soup(asked(tmp_path, given, "greedy-soup"), lambda _: 1 / 0, EXECUTOR)
    assert sorted(os.listdir(tmp_path)) == ["base", "m4", "m8"]


def test_a_search_takes_no_weights_and_writes_over_nothing(tmp_path: Path) -> None:
    given = models(tmp_path, 8, 4)
    with pytest.raises(UserInputError, match="leave --weights and --statistics out"):
        greedy_soup(asked(tmp_path, given, "greedy-soup", weights=[1, 2]), value, EXECUTOR)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserInputError, match="out: exists already"):
        greedy_soup(asked(tmp_path, given, "greedy-soup"), value, EXECUTOR)
    with pytest.raises(UserInputError, match="out: exists already"):
        tune(asked(tmp_path, given, "task-arithmetic"), "scale", ["1"], value, EXECUTOR)


def test_a_search_is_no_formula(tmp_path: Path) -> None:
    given = models(tmp_path, 1, 2)
    for name in SEARCHES:
        with pytest.raises(FusionError, match="is a search"):
            fuse_folders(asked(tmp_path, given, name), EXECUTOR)


def test_what_a_killed_search_left_is_removed(tmp_path: Path) -> None:
    given = models(tmp_path, 8)
    left = tmp_path / ".out.trying-4194999"  # beyond any process id
    left.mkdir()
    greedy_soup(asked(tmp_path, given, "greedy-soup"), value, EXECUTOR)
    assert not left.exists()


def test_tuning_finds_the_best_value_of_a_grid(tmp_path: Path) -> None:
    request = asked(tmp_path, models(tmp_path, 8, 2), "task-arithmetic")
    key, values = parse_grid("scale=0.1:1.0:0.1")
    found = tune(request, key, values, lambda folder: -abs(value(folder) - 3.1), EXECUTOR)
    assert [trial.what for trial in found.trace] == [f"scale={v}" for v in values]
    assert [trial.kept for trial in found.trace] == [True] * 3 + [False] * 7
    fuse_folders(found.request, EXECUTOR)
    assert value(tmp_path / "out") == pytest.approx(3.0)


def test_of_equal_values_the_smallest_is_kept(tmp_path: Path) -> None:
    request = asked(tmp_path, models(tmp_path, 8), "mean then interpolate")
    found = tune(request, "interpolate.alpha", ["1", "0.75", "0.5", "0.25"], lambda f: float(value(f) > 2), EXECUTOR)
    assert found.request.recipe.outers[0].model_dump() == {"alpha": 0.5}
    assert [trial.what[-4:] for trial in found.trace] == ["0.25", "=0.5", "0.75", "ha=1"]


def test_words_are_tried_in_their_order(tmp_path: Path) -> None:
    request = asked(tmp_path, models(tmp_path, 8), "task-arithmetic")
    found = tune(request, "flavour", ["paper", "mergekit"], value, EXECUTOR)
    assert lines(found) == [("flavour=paper", pytest.approx(2.4), True), ("flavour=mergekit", 8.0, True)]


def test_what_cannot_be_tuned_is_refused_before_anything_is_fused(tmp_path: Path) -> None:
    given = models(tmp_path, 8)
    for method, key, values, says in (
        ("ties", "alpha", ["1"], "no step has such a parameter; known are ties.density"),
        ("ties then interpolate then extrapolate", "alpha", ["1"], r"interpolate\.alpha or extrapolate\.alpha"),
        ("clip then clip", "clip.norm", ["1"], "several steps"),
        ("ties", "ties.density", ["0.5", "2"], "ties: density=2: Input should be less"),
        ("greedy-soup", "keep", ["equal"], "a search cannot be tuned"),
        ("mean", "absent", [], "expected one value or more"),
    ):
        with pytest.raises(UserInputError, match=says):
            tune(asked(tmp_path, given, method), key, values, value, EXECUTOR)


def test_a_grid_is_read_in_decimals_with_both_ends() -> None:
    for text, values in {
        "s=0.1:0.3:0.1": ["0.1", "0.2", "0.3"],
        "s=0.1:0.35:0.1": ["0.1", "0.2", "0.3"],
        "s=1:1:1": ["1"],
        "s= a, b": ["a", "b"],
    }.items():
        assert parse_grid(text) == ("s", values)


def test_what_is_no_grid_is_refused() -> None:
    for text in ("s", "s=", "=1", "s=1:2", "s=2:1:1", "s=1:2:0", "s=1:2:-1", "s=0:1:1e-9", "s=a:b:c", "s=1:nan:1"):
        with pytest.raises(UserInputError, match="expected"):
            parse_grid(text)


def test_a_trial_is_told_as_it_ends(tmp_path: Path) -> None:
    request, trials = asked(tmp_path, models(tmp_path, 8), "task-arithmetic"), []
    found = tune(request, "scale", ["0.5", "1"], value, EXECUTOR, callback=trials.append)
    assert tuple(trials) == found.trace


def test_halves_share_every_class() -> None:
    labels = (0, 0, 0, 1, 1, 2)
    data = TextDataset(texts=tuple("abcdef"), labels=labels, label_names=("x", "y", "z"))
    first, second = halves(data)
    assert (first.texts, second.texts) == (("a", "c", "d", "f"), ("b", "e"))
    with pytest.raises(UserInputError, match="too few"):
        halves(data.take([0, 3, 5]))
