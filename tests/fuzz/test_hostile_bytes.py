"""Whatever bytes arrive from outside, each reader answers with a value or a declared error. Short; see `fuzz`."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.mutations import mutate
from fuzz.readers import all_readers
from fuzz.running import run

MAX_BYTES = 256 << 20
"""Memory that Python may take at one time while a reader reads inputs of 64 KiB at most."""
NUM_FAST, NUM_SLOW = 60, 12


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    with ExitStack() as stack:
        yield all_readers(tmp_path_factory.mktemp("fuzz"), stack)


def test_every_sample_is_read_or_refused(readers):
    outcomes = {name: [run(reader, seed) for seed in reader.seeds] for name, reader in readers.items()}
    never_read = [name for name, said in outcomes.items() if "read" not in said and not name.startswith("request ")]
    assert never_read == ["certificate", "recipe file"] or set(never_read) <= {"certificate"}


def test_hostile_bytes_are_read_or_refused(readers):
    tracemalloc.start()
    try:
        for reader in readers.values():

            @settings(
                max_examples=NUM_SLOW if reader.is_slow else NUM_FAST, deadline=None, database=None,
                suppress_health_check=list(HealthCheck), derandomize=True,
            )  # fmt: skip
            @given(st.sampled_from(reader.seeds), st.integers(0, 2**32))
            def try_it(seed, number, reader=reader):
                run(reader, mutate(seed, random.Random(number)))

            try_it()
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
