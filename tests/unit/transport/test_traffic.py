"""What a connection may bring: what its calls read, what they may still read, and a little more."""

from coldfuse.transport.channel import MAX_REQUEST_BYTES, WINDOW_BYTES
from coldfuse.transport.connections import Connection, choose_silent
from coldfuse.transport.traffic import Traffic

PLACE = ("10.0.0.1", 4711)
MIB = 1 << 20


def is_explained(traffic: Traffic, received: int, *, sent: int = 0) -> bool:
    return traffic.is_explained(PLACE, received=received, sent=sent)


def test_an_upload_is_explained_while_it_comes_and_after_it_came_or_was_cut_off():
    traffic, received = Traffic(), 0
    traffic.begin(PLACE)
    for _ in range(100):
        traffic.await_message(PLACE)
        received += MIB
        assert is_explained(traffic, received)
        traffic.read(PLACE, MIB)
        assert is_explained(traffic, received + WINDOW_BYTES)
    traffic.await_message(PLACE)
    traffic.read(PLACE, None)
    traffic.end(PLACE)
    assert is_explained(traffic, received + MAX_REQUEST_BYTES)
    assert not is_explained(traffic, received + 20 * MIB)


def test_many_small_calls_and_a_long_download_are_explained():
    traffic = Traffic()
    for _ in range(10_000):
        traffic.begin(PLACE)
        traffic.end(PLACE)
    assert is_explained(traffic, 10_000 * 500)
    assert is_explained(Traffic(), 10 << 20, sent=10 << 30)


def test_headers_without_end_are_not():
    traffic = Traffic()
    assert not is_explained(traffic, MIB)
    traffic.begin(PLACE)
    assert not is_explained(traffic, MIB)


def test_what_is_over_is_forgotten():
    traffic = Traffic()
    traffic.begin(PLACE)
    traffic.await_message(PLACE)
    traffic.read(PLACE, MIB)
    traffic.forget([])  # its call still runs
    assert is_explained(traffic, MIB)
    traffic.end(PLACE)
    traffic.forget([PLACE])  # it may call again
    assert is_explained(traffic, MIB)
    traffic.forget([])
    assert not is_explained(traffic, MIB)


def test_connections_on_which_something_moves_stay_however_many_there_are():
    busy = [Connection(number, ("10.0.0.1", number), 0.1) for number in range(9)]
    assert choose_silent(busy, num_most=3) == []
