"""What a contribution counts that was trained on an older base than the round's.

τ is the number of releases by which its base is older. Its delta is multiplied by s(τ) before anything else is done
with it, so that a rule means the same for every fusion method: a mean of K contributions is Σ_i s(τ_i) δ_i / K, as
FedBuff has it (arXiv 2106.06639, algorithm 1: divided by K). Divided by Σ_i s(τ_i) instead, a round of nothing but old
contributions would move the base as far as one of fresh ones, and the rule would say nothing.

    constant      1
    polynomial    (1 + τ)^−a                              arXiv 1903.03934, section 5.2
    hinge         1 if τ ≤ b, else 1 / (a (τ − b) + 1)    the same
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_STALENESS = 20
"""The oldest base, in releases, that any rule takes: a round names every base that it takes."""

_DIGITS = 6
"""Decimals of a weight: a power may differ in its last bits from machine to machine, and a release must not."""

_RULE = re.compile(r"([a-z]+)\s*(?:\(([^()]*)\))?")

Numbers = Mapping[str, float]

RULES: dict[str, tuple[Numbers, Callable[[int, Numbers], float]]] = {
    "constant": ({}, lambda age, p: 1.0),  # noqa: ARG005 - all rules are called alike
    "polynomial": ({"a": 0.5}, lambda age, p: (1.0 + age) ** -p["a"]),
    "hinge": ({"a": 10.0, "b": 4.0}, lambda age, p: 1.0 / (p["a"] * max(age - p["b"], 0.0) + 1.0)),
}
"""The rules by name: the defaults of their parameters, and s(τ). FedAsync's own defaults."""

_MOST = {"polynomial": {"a": 4.0}, "hinge": {"a": 1000.0, "b": float(MAX_STALENESS)}}
"""Largest parameters: beyond these, what is still taken would count nothing after rounding."""


def _parse(line: str) -> tuple[str, dict[str, float]]:
    match = _RULE.fullmatch(line.strip())
    if match is None or match[1] not in RULES:
        raise ValueError(f"expected {_known()}")
    name, params = match[1], dict(RULES[match[1]][0])
    for pair in filter(None, (part.strip() for part in (match[2] or "").split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or key not in params:
            raise ValueError(f"{name} has no {pair!r}; expected {_known()}")
        try:
            params[key] = float(value)
        except ValueError:
            raise ValueError(f"{name}: {key} is {value!r}, expected a number") from None
        if not 0 <= params[key] <= _MOST[name][key]:  # also refuses NaN
            raise ValueError(f"{name}: {key} is {value}, expected 0 to {_MOST[name][key]:g}")
    return name, params


def _known() -> str:
    return ", ".join(_written(name, params) for name, (params, _) in RULES.items())


def _written(name: str, params: Numbers) -> str:
    return f"{name}({', '.join(f'{key}={value:g}' for key, value in params.items())})" if params else name


def _canonical(line: str) -> str:
    return _written(*_parse(line))


StalenessRule = Annotated[str, Field(max_length=64), AfterValidator(_canonical)]
"""A rule with its parameters, such as `polynomial(a=0.5)`; written out in full, whatever was left to defaults."""


def staleness_weight(rule: str, staleness: int) -> float:
    """Return s(τ): by what the delta of a contribution is multiplied.

    >>> [staleness_weight("polynomial(a=0.5)", age) for age in (0, 1, 3)]
    [1.0, 0.707107, 0.5]
    >>> [staleness_weight("hinge(a=10, b=4)", age) for age in (0, 4, 5)]
    [1.0, 1.0, 0.090909]

    Args:
        rule: The rule with its parameters.
        staleness: Number of releases by which the contribution's base is older than the round's.
    """
    name, params = _parse(rule)
    return round(RULES[name][1](staleness, params), _DIGITS)
