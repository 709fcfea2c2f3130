"""Starting Ray on a machine that is busy: a start that was only too slow is tried again, a few times.

Ray gives its own processes times to come up, of which only the GCS's can be raised, and says that they were not enough
by errors of no kind of their own: the one of a raylet is a plain `Exception`. So they are told by their words, as Ray
2.60 has them; whatever else Ray raises is none of these, and ends the start at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from coldfuse.errors import WorkerLostError

log = logging.getLogger(__name__)

NUM_TRIES = 3
"""Number of starts before it is given up."""

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 15.0
"""Bounds of the pauses between them, in which what else runs on the machine may come to its end."""

_TOO_SLOW: tuple[tuple[type[Exception], str, bool], ...] = (
    (Exception, "The current node timed out during startup", False),  # the raylet, within 30 s
    (RuntimeError, "Timed out waiting for file ", True),  # the GCS, which writes its port there
    (RuntimeError, "Failed to start GCS", True),  # it listens, and answers nobody
)
"""Kind and first words of the errors of a start that took too long, and whether RAY_gcs_server_port_wait_time_s says
how long is waited."""


def start_patiently(
    start: Callable[[], None], *, instead: str = "", sleep: Callable[[float], None] = time.sleep
) -> None:
    """Start Ray, again where that only took too long.

    Args:
        start: Starts it, and leaves nothing behind where it raises.
        instead: What the command that runs can do otherwise, for the error; "": nothing.
        sleep: Waits for a number of seconds.

    Raises:
        WorkerLostError: It was too slow every time, or did not start for a reason that passes for no waiting.
    """
    import ray

    retrying = Retrying(
        retry=retry_if_exception(was_too_slow),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, min=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=stop_after_attempt(NUM_TRIES),
        sleep=sleep,
        before_sleep=_say,
        reraise=True,
    )
    try:
        retrying(start)
    except Exception as error:
        if was_too_slow(error):
            raise WorkerLostError(_too_slow(error, instead)) from error
        if isinstance(error, OSError | RuntimeError | ray.exceptions.RayError):
            raise WorkerLostError(f"Ray did not start here: {first_line(error)}") from error
        raise


def was_too_slow(error: BaseException) -> bool:
    """Tell a Ray that did not come up in time from one that cannot."""
    import ray

    if isinstance(error, ray.exceptions.RaySystemError):  # whoever looks for the raylet asks the GCS, in vain
        return "Failed to connect to GCS" in str(error)
    return any(type(error) is kind and str(error).startswith(words) for kind, words, _ in _TOO_SLOW)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or else its kind."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _too_slow(error: BaseException, instead: str) -> str:
    has_setting = any(str(error).startswith(words) for _, words, is_set in _TOO_SLOW if is_set)
    longer = "set RAY_gcs_server_port_wait_time_s to more than 30" if has_setting else ""
    advice = [each for each in ("run fewer processes beside it", longer, instead) if each]
    return (
        f"Ray did not come up here in time, in {NUM_TRIES} tries ({_first_sentence(error)}): this machine seems too "
        f"busy for it; {', or '.join(advice)}; where it is idle, Ray's logs say why: ray/session_latest/logs in "
        "RAY_TMPDIR, /tmp by default"
    )


def _first_sentence(error: BaseException) -> str:
    return first_line(error).partition(". ")[0].rstrip(". ")


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "Ray did not come up in time (start %d of %d), and is started again: %s",
        state.attempt_number, NUM_TRIES, _first_sentence(error) if error else "",
    )  # fmt: skip
