"""The decision which Ray cluster is joined, from what it tells a stranger."""

import pytest

from coldfuse.engine.ray_frontier import Frontier, is_loopback, why_not_join

HERE, THERE = "127.0.0.1:6379", "10.0.0.5:6379"


@pytest.mark.parametrize(
    ("address", "asks_token", "machines", "is_joined"),
    [
        (THERE, True, None, True),
        (HERE, True, None, True),
        ("ray://10.0.0.5:10001", True, None, True),
        (THERE, False, ("10.0.0.5",), False),
        (THERE, False, ("127.0.0.1",), False),
        (HERE, False, ("127.0.0.1",), True),
        ("[::1]:6379", False, ("::1",), True),
        ("localhost:6379", False, ("127.0.0.1", "::1"), True),
        (HERE, False, ("10.0.0.5",), False),  # a head that listens everywhere
        (HERE, False, ("127.0.0.1", "10.0.0.6"), False),
        (HERE, False, None, False),  # it does not say
        (HERE, False, (), False),
        ("ray://127.0.0.1:10001", False, None, False),
        ("127.0.0.1.example.org:6379", False, ("127.0.0.1",), False),
    ],
)
def test_without_a_token_only_what_this_machine_alone_reaches_is_joined(address, asks_token, machines, is_joined):
    reason = why_not_join(Frontier(address=address, asks_token=asks_token, machines=machines))
    assert (reason is None) is is_joined
    assert reason is None or (address in reason and "RAY_AUTH_MODE=token" in reason and "\n" not in reason)


@pytest.mark.parametrize(
    "text", ["", ":", "[", "]", "[::1", "::", "0.0.0.0:1", "127.0.0.1.evil:1", "ray://127.0.0.1:1"]
)
def test_what_is_not_surely_loopback_is_not_taken_for_it(text):
    assert is_loopback(text) is (text == "[::1")
