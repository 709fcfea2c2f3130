"""Made-up deltas: a base that opens, honest ones alike in length, and hostile ones that do what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.simulation.deltas import DeltaMaker, known_ones, write_base
from coldfuse.simulation.plan import Contributor
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.header import parse_header


def contributor(number, attack=None):
    return Contributor(number=number, name=f"virtual-{number}", slowness=1.0, attack=attack)


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    base = open_checkpoint(write_base(tmp_path_factory.mktemp("base"), 30_000, seed=0))
    return DeltaMaker(base.schema, 7, known_ones([contributor(number) for number in range(10)]))


def test_a_base_is_about_as_large_as_it_was_asked_for(maker):
    assert maker.num_elements == pytest.approx(30_000, rel=0.02)


def test_honest_deltas_differ_and_are_about_as_long(maker):
    deltas = [maker.delta(contributor(number), 1).astype(float) for number in range(5)]
    lengths = [np.linalg.norm(delta) for delta in deltas]
    assert max(lengths) < 2 * min(lengths)
    cosine = deltas[0] @ deltas[1] / lengths[0] / lengths[1]
    assert 0.05 < cosine < 0.15  # the likeness of 0.3, squared
    assert not np.array_equal(deltas[0], maker.delta(contributor(0), 2))


def test_hostile_deltas_are_those_of_their_attacks(maker):
    honest = maker.delta(contributor(20), 1)
    assert np.array_equal(maker.delta(contributor(20, "sign-flip"), 1), -honest)
    assert np.array_equal(maker.delta(contributor(20, "mimic"), 1), maker.delta(contributor(0), 1))
    assert not maker.delta(contributor(20, "zeros"), 1).any()


def test_a_delta_is_packed_as_a_node_packs_it(maker):
    packed = maker.pack(maker.delta(contributor(3), 1), "0" * 64)
    header = parse_header(packed.data[8 : 8 + int.from_bytes(packed.data[:8], "little")], what="delta")
    check_delta(header, maker.schema, base_digest="0" * 64, what="delta")
    assert packed.blob.size_bytes == len(packed.data) == header.file_bytes


def test_where_nobody_is_honest_hostile_ones_know_each_other():
    hostile = [contributor(number, "mimic") for number in range(3)]
    assert known_ones(hostile) == (0, 1, 2)
    assert known_ones([*hostile, contributor(3)]) == (3,)
