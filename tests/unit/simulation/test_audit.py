"""The audit finds what it is for: acknowledged contributions without a verdict, and with two."""

from __future__ import annotations

from federations import make_federation

from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.round import Admitted, Rejected
from coldfuse.core.serialization import encode
from coldfuse.simulation.audit import audit, count_files
from coldfuse.simulation.counting import CountedStore
from coldfuse.storage import MemoryStore

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def admitted(*digests):
    return Admitted(admissions=tuple(
        Admission(contribution=digest, contributor="ada", delta_digest=digest, num_examples=1) for digest in digests
    ))  # fmt: skip


def rejected(digest):
    rejection = Rejection(contribution=digest, contributor="eve", reason=f"round 7 has no {digest[:12]}00")
    return Rejected(rejections=(rejection,))


def test_one_verdict_each_is_whole():
    federation = make_federation(MemoryStore())
    journal = federation.journal(1)
    for event in (admitted(A), rejected(B)):
        journal.append(event)
        journal.state()
    found = audit(federation, [A, B])
    assert found.is_whole
    assert (found.num_admitted, found.num_rejected) == (1, 1)
    assert found.reasons == {"round … has no …": 1}


def test_what_is_lost_and_what_is_judged_twice_is_found():
    federation = make_federation(MemoryStore())
    keys = {"00000000-admitted": admitted(A), "00000001-admitted": admitted(A), "00000002-rejected": rejected(B)}
    for key, event in keys.items():
        federation.store.put_if_absent(f"rounds/00001/journal/{key}", encode(event))
    found = audit(federation, [A, B, C])
    assert not found.is_whole
    assert (found.num_with_two, found.num_without_verdict) == (1, 1)


def test_operations_are_counted_and_do_what_they_do():
    store = CountedStore(MemoryStore())
    assert store.put_if_absent("a", b"1")
    assert not store.put_if_absent("a", b"2")
    assert store.get("a") == b"1"
    assert store.head("b") is None
    assert count_files(store) == 1
    assert store.counts() == {"put a": 2, "get a": 1, "head b": 1, "list": 1}
