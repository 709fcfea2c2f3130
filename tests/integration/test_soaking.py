"""The channel `stable` follows by the federation's rule, as whoever leads moves it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from commands import wait_until
from rooted_rounds import make_signed_federation
from tiny_nodes import MODEL, TinyNode, aggregating, running
from tiny_rounds import make_federation

from coldfuse.core.federation import ChangeableSettings
from coldfuse.core.soak import SoakRule
from coldfuse.gateway.store import StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.moving import roll_back
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.storage import LocalStore
from coldfuse.verification.store import Request, verify_store


def soak(federation: Federation, rule: SoakRule) -> None:
    settings, etag = read_settings(federation.store)
    write_change(federation.store, settings, etag, ChangeableSettings(soak=rule), by="a test", after_release=0)


def stable(federation: Federation) -> int | None:
    return federation.channel("stable").release if "stable" in federation.pointers.names() else None


def test_after_so_many_releases_and_never_ahead(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "f", MODEL, quorum=1)
    soak(federation, SoakRule(rounds=2))
    node = TinyNode("ada", StoreGateway(federation), tmp_path / "ada")
    with aggregating(federation), running(node):
        wait_until(lambda: stable(federation) is not None and stable(federation) >= 2, "stable to follow")  # type: ignore[operator]
        roll_back(federation, 1, reason="", by="", signer=None)
        wait_until(lambda: stable(federation) == 1, "stable to step back with latest")
        newest = federation.channel("latest").newest
        wait_until(lambda: (stable(federation) or 0) > newest, "stable to follow anew")
    line, number = set[int](), federation.channel("latest").release
    while number is not None:
        line.add(number)
        number = federation.release(number).parent
    assert stable(federation) in line
    assert len([one for one in line if one > (stable(federation) or 0)]) >= 2


def test_after_so_long(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "f", MODEL, quorum=1)
    soak(federation, SoakRule(seconds=0.05))
    node = TinyNode("ada", StoreGateway(federation), tmp_path / "ada")
    with aggregating(federation):
        node.contribute()
        wait_until(lambda: stable(federation) == 1, "stable to follow")


def test_the_aggregator_signs_it(tmp_path: Path) -> None:
    made = make_signed_federation(tmp_path, rounds=3, method="mean")
    settings, etag = read_settings(made.store)
    write_change(
        made.store, settings, etag, ChangeableSettings(soak=SoakRule(rounds=1)), by="ada", after_release=3,
        signers=made.keys.operators,
    )  # fmt: skip
    federation = open_federation(LocalStore(made.store.url), signer=made.keys.signer)
    with aggregating(federation):
        wait_until(lambda: stable(federation) == 2, "stable to follow")
    report = verify_store(made.store, Request(at_s=time.time(), fingerprint=made.keys.fingerprint))
    assert report.findings == ()


def test_a_stable_that_is_damaged_stops_no_round_and_is_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(tmp_path / "f", MODEL, quorum=1)
    soak(federation, SoakRule(rounds=1))
    node = TinyNode("ada", StoreGateway(federation), tmp_path / "ada")
    with aggregating(federation):
        node.contribute()
        wait_until(lambda: stable(federation) == 0, "stable")
        (Path(federation.store.url) / "channels" / "stable").write_bytes(b"{}")
        node.contribute()
        wait_until(lambda: federation.channel("latest").release == 2, "the next release")
        wait_until(lambda: "damaged" not in str(_looked(federation)), "stable to be written anew")
    assert stable(federation) == 1
    assert "counts for nothing" in caplog.text


def _looked(federation: Federation) -> object:
    try:
        return federation.channel("stable")
    except Exception as error:  # noqa: BLE001 - what is asked is whether it can be read
        return error
