"""A whole simulation, small: every promise that the large ones report on holds, and every fault has landed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.simulation.load import LoadSettings, simulate_load
from coldfuse.simulation.plan import Crowd, Faults
from coldfuse.simulation.servers import Aggregation
from coldfuse.storage import LocalStore

CROWD = Crowd(
    num_contributors=20, faults=Faults(crash=0.2, malicious=0.1, late=0.2), attacks=("mimic", "zeros"), deadline_s=12.0
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("simulation") / "store"


@pytest.fixture(scope="module")
def report(store):
    settings = LoadSettings(
        crowd=CROWD, num_rounds=1, store=str(store), quorum=8, grace_s=12.0, num_parameters=20_000,
        aggregation=Aggregation(on_ray=False),
    )  # fmt: skip
    return simulate_load(settings)


def test_every_acknowledged_contribution_has_its_one_verdict(report):
    assert report.audit.is_whole
    assert report.audit.num_acknowledged == report.ends["acknowledged"] >= 8
    assert report.audit.num_admitted + report.audit.num_rejected == report.audit.num_acknowledged


def test_the_round_made_a_release(report, store):
    (found,) = report.rounds
    assert found.ended == "published"
    assert found.admitted >= 8
    assert len(LocalStore(store).list("releases/").keys) == 2


def test_the_faults_have_landed(report):
    assert 1 <= report.ends["crashed"] <= 4  # who finds the round closed has nothing left to die of
    assert report.ends["closed"] >= 4  # those who are late
    assert (report.hostile, report.late) == (2, 4)
    assert any("its delta is that of" in why or "changes nothing" in why for why in report.audit.reasons)


def test_cost_is_counted(report):
    assert 2 < report.files < 8
    assert 3 < report.gateway_operations < 40
    assert report.operations["gateways"]["put objects"] >= 2 * report.audit.num_acknowledged
    assert [m.name for m in report.memory] == ["gateway 1", "gateway 2", "aggregator 3"]
    assert all(0 < m.start_mib <= m.peak_mib < 1000 for m in report.memory)
    assert 0 < report.commit_p50_ms <= report.commit_p99_ms <= report.visit_p99_ms


def test_an_attack_that_needs_data_is_refused_without(tmp_path):
    crowd = Crowd(num_contributors=2, attacks=("label-flip",))
    with pytest.raises(UserInputError, match="without data to train on"):
        simulate_load(LoadSettings(crowd=crowd, store=str(tmp_path / "store")))
    assert not (tmp_path / "store").exists()


def test_a_store_that_holds_a_federation_is_left_alone(store, report):
    with pytest.raises(ColdfuseError, match="holds a federation already"):
        simulate_load(LoadSettings(crowd=Crowd(num_contributors=2), store=str(store)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attack", "none-such"], "--attack none-such: expected one of gaussian"),
        (["--faults", "crash=2"], "expected a share"),
        (["--method", "mean", "--method", "median"], "one at a time"),
        (["--parameters", "-3"], "--parameters -3"),
    ],
)
def test_what_makes_no_sense_is_one_line(words, said):
    result = CliRunner().invoke(app, ["simulate", *words])
    assert result.exit_code == 1
    assert said in str(result.exception)


def test_the_command_prints_json(tmp_path, monkeypatch):
    words = ["--contributors", "3", "--rounds", "1", "--faults", "", "--quorum", "3", "--threads", "--gateways", "1",
             "--parameters", "1K", "--json"]  # fmt: skip
    result = CliRunner().invoke(app, ["simulate", *words])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["audit"]["num_admitted"] == 3
    assert found["rounds"][0]["ended"] == "published"
