"""Laws of a method's results: what they are of zero, of little, of everything alike, of larger deltas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from coldfuse.core.dtypes import from_floats
from coldfuse.errors import FusionError
from coldfuse.fusion.apply import move
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Combiner, Method, Ranked
from coldfuse.testing.trial import (
    COUNTS,
    SCALES,
    SIZES,
    Maker,
    counts_of,
    draw,
    draw_models,
    fuse,
    require,
    require_close,
    require_finite,
    require_same_bits,
    require_sentence,
    trials,
)

_FLOATS = ("F64", "F32", "BF16", "F16")


def is_deterministic(make: Maker) -> None:
    """The same contributions give the same bits, every time."""
    method = make()
    models = draw_models(method, counts_of(method)[-1])
    first, second = fuse(method, models), fuse(make(), models)
    for name in models.base:
        require_same_bits(method, second[name], first[name], f"{name} is different the second time")


def zero_deltas_keep_the_base(make: Maker) -> None:
    """Where nobody changed anything, nothing changes: not even the sign of a zero of the base."""
    method = make()
    for count in counts_of(method):
        models = draw_models(method, count)
        for zero in (0.0, -0.0):
            nothing = tuple({name: np.full(b.shape, zero) for name, b in models.base.items()} for _ in models.deltas)
            for name, delta in fuse(method, replace(models, deltas=nothing)).items():
                require(not delta.any(), method, f"{name} moves although all {count} deltas are {zero}")
                _require_the_base_stays(method, delta.ravel(), name)


def a_tensor_that_nobody_changed_stays(make: Maker) -> None:
    """A tensor that no contribution carries, or that is zero in all of them, stays as it is beside others."""
    method = make()
    for count in counts_of(method):
        models = draw_models(method, count)
        changed = [
            {name: d * (name != "square") for name, d in delta.items() if name not in ("tall", "size_7")}
            for delta in models.deltas
        ]
        fused = fuse(method, replace(models, deltas=tuple(changed)))
        for name in ("tall", "size_7", "square"):
            require(not fused[name].any(), method, f"{name} moves although none of {count} contributions changes it")


def finite_in_finite_out(make: Maker) -> None:
    """Finite deltas of any shape and size give finite numbers, also where many are equal or zero."""
    method = make()
    for count in counts_of(method):
        for scale in SCALES:
            for coarse in (False, True):
                models = draw_models(method, count, seed=f"{coarse}{scale}", scale=scale, coarse=coarse)
                require_finite(method, fuse(method, models), f"for {count} deltas of size {scale}, {coarse=}")


def little_is_enough(make: Maker) -> None:
    """One element is enough, and one contribution; a method that needs more of these says so in a sentence."""
    method = make()
    counts = counts_of(method)
    for size in SIZES:
        for count in COUNTS:
            try:
                models = draw_models(method, count, {"w": (size,)}, seed=str(size))
                require_finite(method, fuse(method, models), f"for {count} deltas of {size} elements")
            except FusionError as error:
                require_sentence(method, error)
                may_refuse = count not in counts or (size == 1 and count > 1)  # single numbers are copies but in length
                require(may_refuse, method, f"refuses {count} deltas of {size} elements: {error}")


def degenerate_deltas_are_fused_or_refused(make: Maker) -> None:
    """Deltas that cancel, that are copies, or of which one alone is not zero, give numbers, or a sentence why not."""
    method = make()
    for count in counts_of(method):
        models = draw_models(method, count)
        for what, factors in _degenerate(count):
            deltas = tuple({n: d * factor for n, d in models.deltas[0].items()} for factor in factors)
            try:
                fused = fuse(method, replace(models, deltas=deltas))
            except FusionError as error:
                require_sentence(method, error)
            else:
                require_finite(method, fused, f"for {count} deltas that {what}")


def weight_zero_is_absence(make: Maker) -> None:
    """A contribution of weight 0 counts nothing, whatever it says (for methods that weigh)."""
    method = make()
    counts = counts_of(method)
    if not isinstance(method, Combiner) or not method.is_weighted:
        return
    for count in (n for n in counts if n - 1 in counts and method.positional_weights(n) is None):
        models = draw_models(method, count)
        loud = {name: 1000.0 * delta for name, delta in models.deltas[0].items()}
        unheard = replace(models, weights=(0.0, *models.weights[1:]), deltas=(loud, *models.deltas[1:]))
        if models.statistics is not None:
            louder = {name: 1000.0 * statistic for name, statistic in models.statistics[0].items()}
            unheard = replace(unheard, statistics=(louder, *models.statistics[1:]))
        without = models.chosen(range(1, count))
        what = "a contribution of weight 0 changes the result"
        require_close(method, fuse(method, unheard), fuse(method, without), without, what)


def what_all_agree_on_comes_back(make: Maker) -> None:
    """Equal deltas are their own average, up to rounding."""
    method = make()
    for count in counts_of(method):
        for scale in SCALES:
            models = draw_models(method, count, seed=str(scale), scale=scale)
            same = replace(models, deltas=models.deltas[:1] * count)
            what = f"{count} equal deltas of size {scale} do not come back"
            require_close(method, fuse(method, same), models.deltas[0], same, what)


def weights_are_relative(make: Maker) -> None:
    """Twice the weights are the same weights (for averages that weigh)."""
    method = make()
    models = draw_models(method, counts_of(method)[-1])
    if isinstance(method, Combiner) and method.is_weighted and method.positional_weights(len(models.weights)) is None:
        twice = replace(models, weights=tuple(2 * weight for weight in models.weights))
        require_close(method, fuse(method, twice), fuse(method, models), models, "twice the weights change the result")


def weights_that_make_no_average_are_refused(make: Maker) -> None:
    """Weights that are all zero, infinite or no numbers are refused in a sentence (for averages that weigh)."""
    method = make()
    models = draw_models(method, counts_of(method)[-1])
    if not isinstance(method, Combiner) or not method.is_weighted:
        return
    for weight in (0.0, float("nan"), float("inf")):
        try:
            fuse(method, replace(models, weights=(weight,) * len(models.weights)))
        except FusionError as error:
            require_sentence(method, error)
        else:
            require(False, method, f"takes weights that are all {weight}")


def larger_deltas_move_as_much_farther(make: Maker) -> None:
    """If base and deltas are larger by a factor, so is the result: no number in the formula has a delta's unit."""
    method = make()
    is_ranked = method.whole_rows or any(isinstance(measure, Ranked) for measure in method.measures())
    for models in trials(method):
        fused = fuse(method, models)
        for power in (-20, 20) if is_ranked else (-140, -20, 20, 60):  # float32, which ranks have, has no 2**-150
            larger = models.scaled(2.0**power)
            expected = {name: delta * 2.0**power for name, delta in fused.items()}
            what = f"deltas times 2**{power} do not give the result times 2**{power}"
            require_close(method, fuse(method, larger), expected, larger, what)


def the_order_does_not_matter(make: Maker) -> None:
    """In another order, contributions with their weights and statistics give the same result, up to rounding."""
    method = make()
    for models in trials(method):
        count, expected = len(models.deltas), fuse(method, models)
        for order in (range(count - 1, -1, -1), [*range(1, count), 0]):
            what = f"{count} contributions in another order give another result"
            require_close(method, fuse(method, models.chosen(order)), expected, models, what)


def _require_the_base_stays(method: Method, delta_N: Float64, name: str) -> None:
    base_N = draw((delta_N.size,), "base")
    base_N[0] = -0.0
    for dtype in _FLOATS:
        raw = from_floats(base_N, dtype)
        require(
            move(raw, delta_N, dtype).tobytes() == raw.tobytes(), method, f"{name}: {dtype} bits of the base change"
        )


def _degenerate(count: int) -> Iterator[tuple[str, list[float]]]:
    yield "are copies of one", [1.0] * count
    yield "are copies of one up to length", [1.0 + i for i in range(count)]
    yield "cancel", [1.0, -1.0] * (count // 2) + [0.0] * (count % 2)
    yield "are zero but for the first", [1.0] + [0.0] * (count - 1)
    yield "are zero but for the last", [0.0] * (count - 1) + [1.0]
    yield "are tiny but for the first", [1e30] + [1e-30] * (count - 1)
