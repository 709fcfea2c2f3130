"""Whatever bytes arrive from outside, each reader answers with a value or a declared error. Short; see `fuzz`."""

from __future__ import annotations

import gc
import random
import tracemalloc
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.mutations import mutate
from fuzz.readers import all_readers
from fuzz.running import run

MAX_BYTES = 64 << 20
"""Memory that Python may take at one time while a reader reads inputs of 64 KiB at most."""
NUM_FAST, NUM_SLOW = 40, 6


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    with ExitStack() as stack:
        yield all_readers(tmp_path_factory.mktemp("fuzz"), stack)


def test_the_samples_get_to_the_end_of_their_readers(readers):
    outcomes = {name: {run(reader, seed) for seed in reader.seeds} for name, reader in readers.items()}
    gc.collect()  # a connection that a refused answer leaves open is a warning now, which fails this test
    refused = {name for name, said in outcomes.items() if "read" not in said}
    # A certificate's bytes are OpenSSL's to read, mergekit's base is not there, and nobody has sent what is asked for.
    assert refused <= {"certificate", "request Commit", "request GetVerdict"}


def test_hostile_bytes_are_read_or_refused_in_little_memory(readers):
    tracemalloc.start()
    try:
        for name, reader in readers.items():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try_it(name, reader)
            assert tracemalloc.get_traced_memory()[1] - before < MAX_BYTES, name
    finally:
        tracemalloc.stop()


def try_it(name, reader):
    @settings(
        max_examples=NUM_SLOW if reader.is_slow else NUM_FAST, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(reader.seeds), st.integers(0, 2**32))
    def read(seed, number):
        run(reader, mutate(seed, random.Random(number)))

    try:
        read()
    except BaseException as error:
        error.add_note(f"the reader is {name!r}")
        raise
