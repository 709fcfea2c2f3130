"""A gateway's limits follow from its memory."""

import pytest

from coldfuse.errors import GatewayBusyError, UserInputError
from coldfuse.transport.callers import Caller
from coldfuse.transport.limits import MIN_MEMORY_BYTES, limits_within, raise_file_limit
from coldfuse.transport.rooms import Rooms

MIB = 1 << 20


def test_more_memory_holds_more_of_everything():
    small, large = (limits_within(memory, max_files=1 << 20) for memory in (256 * MIB, 1024 * MIB))
    for name in ("transfers_bytes", "messages_bytes", "max_calls", "max_connections"):
        assert getattr(small, name) < getattr(large, name)
    assert large.transfers_bytes + large.messages_bytes < 1024 * MIB


def test_connections_leave_descriptors_for_the_store():
    assert limits_within(1 << 40, max_files=1000).max_connections == 1000 - 256


@pytest.mark.parametrize(
    ("memory", "files", "sentence"),
    [(MIN_MEMORY_BYTES - 1, 1 << 20, "needs 128MiB or more"), (1 << 30, 256, "raise the limit")],
)
def test_what_is_too_little_is_said(memory, files, sentence):
    with pytest.raises(UserInputError, match=sentence):
        limits_within(memory, max_files=files)


def test_the_limit_of_files_is_raised_once():
    assert raise_file_limit() == raise_file_limit() > 256


@pytest.fixture
def rooms():
    limits = limits_within(256 * MIB, max_files=1 << 20)
    rooms = Rooms(limits, max_streams=None, stall_s=1.0, idle_s=1.0, num_threads=1)
    yield rooms, limits.max_calls
    rooms.close()


def test_one_caller_opens_half_of_the_calls_and_others_the_rest(rooms):
    rooms, most = rooms
    opened = []

    def open_as_many_as_go(caller):
        before = len(opened)
        try:
            while True:
                call = rooms.count(Caller(address=caller))
                call.__enter__()
                opened.append(call)
        except GatewayBusyError:
            return len(opened) - before

    assert open_as_many_as_go("greedy") == most // 2
    assert open_as_many_as_go("modest") > most // 8
    for call in opened:
        call.__exit__(None, None, None)
    assert open_as_many_as_go("greedy") == most // 2
