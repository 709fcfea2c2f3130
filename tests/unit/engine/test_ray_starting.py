"""Ray on a busy machine: which of its errors mean that it was too slow, and what is made of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from coldfuse.cli.leading import _INSTEAD_OF_STARTING
from coldfuse.cli.options.operator import Fusing
from coldfuse.config import prepare_ray
from coldfuse.engine.execution import ray_executor
from coldfuse.engine.ray_starting import NUM_TRIES, start_patiently, was_too_slow
from coldfuse.errors import ColdfuseError, WorkerLostError

RAYLET = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to startup or the "
    "GCS has become overloaded."
)
GCS = RuntimeError("Timed out waiting for file /tmp/ray/session_1/gcs_server_port_182f")
SILENT = RuntimeError("Failed to start GCS.  Last 0 lines of error files:\n\n.Please check gcs_server.out")
SLOW = {"raylet": RAYLET, "gcs": GCS, "silent": SILENT}


@pytest.fixture(autouse=True)
def prepared() -> None:
    prepare_ray()  # Ray reads its settings when it is imported


def of_ray(said: str) -> Exception:
    from ray.exceptions import RaySystemError

    return RaySystemError(said)


@pytest.fixture(params=[*SLOW, "deaf"])
def error(request: pytest.FixtureRequest) -> Exception:
    return SLOW.get(request.param) or of_ray("Failed to connect to GCS. Please check if the GCS server is running")


class Starting:
    """A Ray whose first starts raise, one error each."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.count = 0
        self.slept: list[float] = []

    def __call__(self, **_: object) -> None:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)

    def run(self, *, instead: str = "") -> None:
        start_patiently(self, instead=instead, sleep=self.slept.append)


def test_a_start_that_was_too_slow_is_tried_again(error):
    starting = Starting(error, error)
    starting.run()
    assert starting.count == 3
    assert len(starting.slept) == 2
    assert all(pause_s >= 1 for pause_s in starting.slept)


def test_one_that_never_comes_up_ends_in_one_line_that_says_what_to_do(error):
    starting = Starting(*[error] * 9)
    with pytest.raises(WorkerLostError) as caught:
        starting.run(instead="give --threads")
    assert starting.count == NUM_TRIES
    said = str(caught.value)
    assert "\n" not in said
    assert f"in {NUM_TRIES} tries" in said
    assert "or give --threads; where it is idle" in said
    assert "run fewer processes beside it, or" in said


def test_a_setting_of_ray_is_named_only_where_it_helps():
    said = []
    for error in (GCS, SILENT, RAYLET, of_ray("Failed to connect to GCS. Please check")):
        with pytest.raises(WorkerLostError) as caught:
            Starting(*[error] * 9).run()
        said.append("RAY_gcs_server_port_wait_time_s" in str(caught.value))
    assert said == [True, True, False, False]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("Maybe you called ray.init twice by accident?"), WorkerLostError),
        (OSError(28, "No space left on device"), WorkerLostError),
        (Exception("Cannot include dashboard with missing packages."), Exception),
        (RuntimeError("Failed to connect to GCS"), WorkerLostError),  # as a node says it that joins another's cluster
        (KeyError("The current node timed out during startup"), KeyError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_no_waiting_mends_ends_the_start_at_once_and_a_bug_stays_one(error, raised):
    starting = Starting(error)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - its exact kind is looked at below
        starting.run()
    assert type(caught.value) is raised
    assert isinstance(caught.value, ColdfuseError) is (raised is WorkerLostError)
    assert (starting.count, starting.slept) == (1, [])


def test_words_in_the_middle_of_another_error_do_not_count():
    assert not was_too_slow(of_ray("out of file descriptors"))
    assert not was_too_slow(RuntimeError("task said: Timed out waiting for file x"))
    assert not was_too_slow(BaseException("The current node timed out during startup"))


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfuse.engine.ray_starting.FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("coldfuse.engine.ray_starting.LONGEST_WAIT_S", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_a_slow_start_leaves_no_process_and_no_setting_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    halves: list[subprocess.Popen[bytes]] = []

    def init(starting: Starting) -> Callable[..., None]:
        def start(**given: object) -> None:
            left = [child for child in psutil.Process().children() if child.name() == "sleep"]
            seen.append((os.environ["RAY_AUTH_TOKEN_PATH"], len(left)))
            assert Path(seen[-1][0]).is_file()
            halves.append(subprocess.Popen(["sleep", "600"]))  # half of a Ray
            starting(**given)

        return start

    monkeypatch.setattr("ray.init", init(Starting(*[RAYLET] * 9)))
    before = dict(os.environ)
    with pytest.raises(WorkerLostError, match="did not come up"), ray_executor(None, num_cpus=1):
        pass
    assert len(seen) == NUM_TRIES
    assert len({token for token, _ in seen}) == NUM_TRIES
    assert {left for _, left in seen} == {0}
    for half in halves:
        assert not psutil.pid_exists(half.pid)
        half.wait(1)
    assert not any(Path(token).exists() for token, _ in seen)
    assert dict(os.environ) == before


@pytest.mark.parametrize("is_up", [True, False])
def test_a_ray_that_the_program_has_started_before_is_left_alone(monkeypatch: pytest.MonkeyPatch, is_up: bool) -> None:
    ended: list[bool] = []
    twice = RuntimeError("Maybe you called ray.init twice by accident?")
    monkeypatch.setattr("ray.is_initialized", lambda: is_up)
    monkeypatch.setattr("ray.init", Starting(twice))
    monkeypatch.setattr("ray.shutdown", lambda: ended.append(True))
    with pytest.raises(WorkerLostError, match=r"called ray\.init twice"), ray_executor(None, num_cpus=1):
        pass
    assert ended == ([] if is_up else [True])


def test_what_the_aggregator_advises_are_options_that_it_has():
    names = {f"--{name.replace('_', '-')}" for name in Fusing.__dataclass_fields__}
    assert {word for word in _INSTEAD_OF_STARTING.replace(",", "").split() if word.startswith("--")} <= names
