"""The gate and the weights by score of a status: what one end writes, the other reads."""

from dataclasses import replace

import pytest
from test_wire import STATUS

from coldfuse.core.gate_rules import GateRules, SuiteWeight
from coldfuse.transport import wire


@pytest.mark.parametrize(
    "rules",
    [
        GateRules(),
        GateRules.off(),
        GateRules(
            require="better", margin=0.0, alpha=0.1, resolution=0.2, on_unsure="keep", on_silence="keep",
            min_evaluators=3, to_stop=1, wait_s=9.5, max_asks=2, per_rounds=7, noise=1.5, max_suites=2,
            weights=(SuiteWeight(suite="a", weight=0.0), SuiteWeight(suite="b", weight=2.5)), on_one="warn",
            max_missed=4,
        ),
    ],
)  # fmt: skip
def test_a_gate_is_read_as_it_was_written(rules: GateRules) -> None:
    status = replace(STATUS, gate=rules, weighting="leave-one-out", weighed="3 contributions scored")
    read = wire.read_status(wire.write_status(status))
    assert read == status
    assert f"gate: {rules}" in str(read)
    assert "weights by score: leave-one-out; in release 5: 3 contributions scored" in str(read)


def test_of_a_gate_that_only_a_newer_version_knows_nothing_is_said() -> None:
    message = wire.write_status(replace(STATUS, gate=GateRules(), weighting="validation"))
    message.gate.require, message.weighting = "best", "by-lot"
    read = wire.read_status(message)
    assert (read.gate, read.weighting) == (None, None)


def test_an_older_gateway_says_nothing_of_either() -> None:
    message = wire.write_status(STATUS)
    assert not message.HasField("gate")
    assert not message.HasField("weighting")
    assert not message.HasField("weighed")
