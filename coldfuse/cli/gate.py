"""What an operator says of the gate, as rules."""

from __future__ import annotations

import typer
from pydantic import ValidationError

from coldfuse.cli.options.gate import GateWords
from coldfuse.cli.units import parse_duration
from coldfuse.core.gate_rules import GateRules
from coldfuse.errors import UserInputError

_OPTIONS = {"require": "--gate", "wait_s": "--gate-wait", "min_evaluators": "--gate-evaluators",
            "max_asks": "--gate-asks", "max_suites": "--gate-suites", "weights": "--gate-weight"}  # fmt: skip
"""Names of options that are not called as the field of the rules."""

_NEW_GATE: dict[str, object] = {"on_one": "warn", "max_missed": 3}
"""What a new gate has that older ones, which go on as they were, do not have unless it is set."""


def gate_of(words: GateWords, before: GateRules | None) -> GateRules | None:
    """Return the rules that were spoken of, with the numbers that there were before; None where nothing was said.

    Raises:
        UserInputError: A value cannot be.
        typer.BadParameter: Numbers are given for a gate that is off.
    """
    numbers = _numbers(words)
    if words.gate is None and not numbers:
        return None
    was_on = before is not None and before.is_on
    if words.gate == "off" or (words.gate is None and not was_on):
        if numbers:
            first = _option(next(iter(numbers)))
            raise typer.BadParameter(f"{first} says how a gate decides that is off; give --gate not-worse or better")
        return GateRules.off()
    old = before.model_dump() if before is not None and was_on else _NEW_GATE
    asked = {"require": words.gate} if words.gate is not None else {}
    try:
        return GateRules.model_validate(old | asked | numbers)  # max_missed None: all are waited for
    except ValidationError as error:
        raise UserInputError(_explain(error)) from error


def _numbers(words: GateWords) -> dict[str, object]:
    given: dict[str, object] = {
        "margin": words.gate_margin, "alpha": words.gate_alpha, "resolution": words.gate_resolution,
        "wait_s": None if words.gate_wait is None else parse_duration(words.gate_wait),
        "on_unsure": words.gate_on_unsure, "on_silence": words.gate_on_silence,
        "min_evaluators": words.gate_evaluators, "to_stop": words.gate_to_stop, "max_asks": words.gate_asks,
        "per_rounds": words.gate_per_rounds, "noise": words.gate_noise, "max_suites": words.gate_suites,
        "on_one": words.gate_on_one, "efficacy": words.gate_efficacy, "generality": words.gate_generality,
        "weights": [_weight(each) for each in words.gate_weight] or None,
    }  # fmt: skip
    found = {name: value for name, value in given.items() if value is not None}
    return found | ({} if words.gate_max_missed is None else {"max_missed": _rounds(words.gate_max_missed)})


def _rounds(text: str) -> int | None:
    if text == "never":
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise UserInputError(f"--gate-max-missed {text[:80]!r}: expected a number of rounds, or never")
    return int(text)


def _weight(text: str) -> dict[str, object]:
    suite, equals, weight = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return {"suite": suite.strip(), "weight": float(weight)}
    except ValueError:
        raise UserInputError(f"--gate-weight {text[:80]!r}: expected NAME=NUMBER, such as sst2=2") from None


def _option(field: str) -> str:
    return _OPTIONS.get(field, f"--gate-{field.replace('_', '-')}")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    value = f" {first['input']!r:.80}" if isinstance(first["input"], str | float | int) else ""
    return f"{_option(str(first['loc'][0]))}{value}: {first['msg'].removeprefix('Value error, ')}"
