"""A federation from Python: on a folder and over the network alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import wait_until
from tiny_rounds import Model, floats, lead, make_changes, make_federation, make_model, naive_mean, read_release

import coldfuse
from coldfuse.core.names import id_of
from coldfuse.registry.federation import Federation
from coldfuse.transport.server import GatewaySettings, serve_gateway

MODEL = make_model()


@pytest.fixture
def held(tmp_path: Path) -> Federation:
    return make_federation(tmp_path, MODEL)


@pytest.fixture(params=["store", "address"])
def federation(request: pytest.FixtureRequest, held: Federation) -> Iterator[coldfuse.Federation]:
    if request.param == "store":
        with coldfuse.connect(held.store.url) as federation:
            yield federation
        return
    settings = GatewaySettings(show_names=True)
    with serve_gateway(held, settings) as gateway, coldfuse.connect(gateway.address, retry_s=5) as federation:
        yield federation


def finetuned(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A model, and its delta as it travels."""
    changed = {name: floats(MODEL[name].floats + change) for name, change in make_changes(MODEL, seed).items()}
    state = {name: tensor.floats for name, tensor in (MODEL | changed).items() if tensor.spec.is_fused}
    exact = {name: (tensor.floats.astype(np.float64) - MODEL[name].floats) for name, tensor in changed.items()}
    return state | {"classifier.weight": np.ones((2, 8))}, {n: d.astype(np.float32) for n, d in exact.items()}


def same(one: Model, other: Model) -> bool:
    return {name: tensor.data for name, tensor in one.items()} == {name: tensor.data for name, tensor in other.items()}


def decided(federation: coldfuse.Federation, *sent: coldfuse.Acknowledgement) -> list[coldfuse.Decision]:
    """Ask for verdicts until all are there: gateways remember an answer for half a second."""

    def decisions() -> list[coldfuse.Decision]:
        return [federation.verdict(one).decision for one in sent]

    wait_until(lambda: coldfuse.Decision.PENDING not in decisions(), "verdicts")
    return decisions()


def test_two_contributors_make_a_release(held: Federation, federation: coldfuse.Federation, tmp_path: Path) -> None:
    lead(held)
    base = federation.fetch(tmp_path / "model")
    assert (base.release, base.digest, base.path) == (0, held.latest().model_digest, tmp_path / "model")
    sent = [
        federation.contribute(finetuned(seed)[0], num_examples=100, name=name, wait=False)
        for seed, name in ((1, "ada"), (2, "ben"))
    ]
    for one in sent:
        assert (one.round, one.base_release, one.left_out) == (1, 0, ("classifier.weight",))
        assert (one.verdict.decision, one.is_admitted) == (coldfuse.Decision.PENDING, False)
        assert 0 < one.sent_bytes <= one.delta_bytes
    lead(held)
    assert decided(federation, *sent) == [coldfuse.Decision.ADMITTED] * 2
    assert same(read_release(held), naive_mean(MODEL, [finetuned(seed)[1] for seed in (1, 2)]))
    assert [summary.name.number for summary in federation.releases()] == [1, 0]
    assert [summary.name.number for summary in federation.releases(limit=1)] == [1]
    assert federation.fetch(tmp_path / "model").release == 1


def test_waiting_ends_with_the_verdict(held: Federation, federation: coldfuse.Federation, tmp_path: Path) -> None:
    federation.fetch(tmp_path / "model")
    done = threading.Event()

    def led() -> None:
        while not done.wait(0.05):
            lead(held)

    leader = threading.Thread(target=led)
    leader.start()
    try:
        sent = federation.contribute(finetuned(1)[0], num_examples=1, name="ada", timeout_s=60)
    finally:
        done.set()
        leader.join()
    assert sent.is_admitted
    assert "admitted" in repr(sent)


def test_a_rejection_says_why(held: Federation, federation: coldfuse.Federation, tmp_path: Path) -> None:
    lead(held)
    base = federation.fetch(tmp_path / "model")
    first = federation.contribute(finetuned(1)[0], num_examples=1, name="ada", wait=False)
    lead(held)
    again = federation.contribute(finetuned(2)[0], num_examples=1, name="ada", base=base.path, wait=False)
    lead(held)
    assert decided(federation, first, again) == [coldfuse.Decision.ADMITTED, coldfuse.Decision.REJECTED]
    with pytest.raises(coldfuse.ContributionRejectedError, match="rejected: "):
        federation.contribute(finetuned(2)[0], num_examples=1, name="ada", timeout_s=60)


def test_a_name_of_any_script_is_in_status_and_history_with_its_id(
    held: Federation, federation: coldfuse.Federation, tmp_path: Path
) -> None:
    lead(held)
    base = federation.fetch(tmp_path / "model")
    names = ["Klinik Köln", "北京协和医院"]
    sent = [
        federation.contribute(finetuned(seed)[0], num_examples=1, name=name, base=base.path, wait=False)
        for seed, name in enumerate(names)
    ]
    ids = {id_of(name): name for name in names}
    wait_until(lambda: federation.status().round.display_names == ids, "both in the status")
    assert set(federation.status().round.contributors) == ids.keys()
    lead(held)
    decided(federation, *sent)
    newest = federation.releases(limit=1)[0]
    assert {one.contributor: one.display_name for one in newest.contributions} == ids
    assert all(f"{name} ({who})" in repr(federation.releases()) for who, name in ids.items())


@pytest.mark.parametrize("name", ["", "../evil", "a\nb", "x" * 81])
def test_what_is_no_name_is_refused_before_anything_else(federation: coldfuse.Federation, name: str) -> None:
    with pytest.raises(coldfuse.UserInputError, match="choose another, such as"):
        federation.contribute({}, num_examples=1, name=name)


def test_nobody_waits_for_ever(federation: coldfuse.Federation, tmp_path: Path) -> None:
    federation.fetch(tmp_path / "model")
    model = finetuned(1)[0]
    with pytest.raises(coldfuse.TransportError, match="waited in vain for a round to open: round 1 waits for an agg"):
        federation.contribute(model, num_examples=1, name="ada", timeout_s=0)
    with pytest.raises(coldfuse.RoundClosedError):
        federation.contribute(model, num_examples=1, name="ada", wait=False)


def test_a_model_of_an_older_release_is_refused(
    held: Federation, federation: coldfuse.Federation, tmp_path: Path
) -> None:
    lead(held)
    federation.fetch(tmp_path / "old")
    for seed, name in ((1, "ada"), (2, "ben")):
        federation.contribute(finetuned(seed)[0], num_examples=1, name=name, wait=False)
    lead(held)
    wait_until(lambda: federation.status().latest.number == 1, "the release")
    with pytest.raises(coldfuse.RoundClosedError, match="made from release 0, and release 1 is out; fetch that"):
        federation.contribute(finetuned(1)[0], num_examples=1, name="ada")


def test_the_base_must_be_known_and_whole(federation: coldfuse.Federation, tmp_path: Path) -> None:
    model = finetuned(1)[0]
    with pytest.raises(coldfuse.UserInputError, match="does not say which release it was made from"):
        federation.contribute(model, num_examples=1)
    with pytest.raises(coldfuse.UserInputError, match="expected a folder that fetch wrote"):
        federation.contribute(model, num_examples=1, base=tmp_path)
    base = federation.fetch(tmp_path / "model").path
    (base / "model.safetensors").write_bytes(b"the fine-tuned model, by mistake")
    with pytest.raises(coldfuse.UserInputError, match="has changed since release 0 was fetched to it"):
        federation.contribute(model, num_examples=1)


def test_a_release_of_another_federation_is_refused(federation: coldfuse.Federation, tmp_path: Path) -> None:
    other = make_federation(tmp_path / "other", make_model(1))
    base = coldfuse.fetch(other.store.url, tmp_path / "model").path
    with pytest.raises(coldfuse.UserInputError, match="a release of another federation"):
        federation.contribute(finetuned(1)[0], num_examples=1, base=base)


def test_fetching_takes_a_source_or_a_federation(held: Federation, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = coldfuse.fetch(held.store.url, tmp_path / "one", progress=lambda *now: seen.append(now))
    assert seen[-1] == (first.downloaded_bytes, first.downloaded_bytes)
    with coldfuse.connect(held.store.url) as federation:
        assert coldfuse.fetch(federation, tmp_path / "one").downloaded_bytes == 0
        assert coldfuse.fetch(federation, tmp_path / "two", release=0, progress=True).digest == first.digest
        assert federation.status().name == "tiny"  # still open
    with pytest.raises(coldfuse.UserInputError, match="no channel's name"):
        coldfuse.fetch(held.store.url, tmp_path / "three", channel="../x")


def test_a_notebook_reads_well(held: Federation, federation: coldfuse.Federation, tmp_path: Path) -> None:
    assert repr(federation) == f"Federation({federation.source!r})"
    status = federation.status()
    assert str(status).splitlines()[0] == "federation tiny, method mean"
    assert status._repr_html_() == f"<pre>{status}</pre>"
    releases = federation.releases()
    assert repr(releases).split()[:2][0] == "0"
    assert releases._repr_html_().startswith("<table><tr><th>release</th>")
    assert held.latest().model_digest[:16] in releases._repr_html_()
    assert repr(federation.fetch(tmp_path / "model")).splitlines()[-1] == f"digest {held.latest().model_digest}"
