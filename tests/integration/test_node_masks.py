"""A node that trains the same elements round after round sends which ones they are once, and values from then on."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from reviews import write_reviews
from task_rounds import TRAINING, aggregating, make_node
from tiny_model import write_tiny_model

from coldfuse.cli.leaving import show_what_would_leave
from coldfuse.contributor.node import Node
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore

WAY = replace(TRAINING, num_epochs=1, way="masked(kind=random, density=0.05, rounds=3)")


class CountingGateway(StoreGateway):
    """A gateway that remembers what was brought to it."""

    uploads: list[Blob]

    def upload(self, blob, read, **options):
        self.uploads.append(blob)
        return super().upload(blob, read, **options)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    base = write_tiny_model(tmp_path / "base")
    return create_federation(
        LocalStore(tmp_path / "store"), name="tiny", base=base, origin="test", method="mean",
        rules={"quorum": 1, "deadline_s": 60.0},
    )  # fmt: skip


@pytest.fixture
def node(federation: Federation, tmp_path: Path) -> Node:
    data = write_reviews(tmp_path / "ada.csv", num=20)
    made, _ = make_node(federation, "ada", data, task="text-classification", folder=tmp_path / "nodes")
    gateway = CountingGateway(federation)
    gateway.uploads = []
    settings = replace(made.settings, training=WAY, send_anyway=True)
    return Node(settings, made.folder, gateway, made.report, threading.Event())


def manifest_of(federation: Federation, round_number: int) -> ContributionManifest:
    (received,) = federation.journal(round_number).state().received.values()
    return federation.objects.get_value(ContributionManifest, received.contribution)


def test_a_mask_is_sent_once_and_again_where_it_is_lost_or_over(federation: Federation, node: Node) -> None:
    uploads = node.client.uploads
    with aggregating(federation):
        for _ in range(2):
            node.contribute()
        first, second = (manifest_of(federation, number) for number in (1, 2))
        assert first.mask is not None
        assert first.mask == second.mask
        assert first.delta != second.delta
        assert uploads == [first.delta, first.mask, second.delta]
        kinds = [a.measured.kind for a in federation.journal(2).state().admitted.values()]
        assert kinds == [f"{second.trained}, masked"]
        assert first.trained.startswith("masked")

        uploads.clear()
        for part in first.mask.parts:  # as an operator who has cleared what no latest round needs
            federation.store.delete(f"objects/{part.digest}")
        fresh = CountingGateway(federation)  # another gateway, which has seen nothing
        fresh.uploads = uploads
        replace(node, client=fresh).contribute()
        third = manifest_of(federation, 3)
        assert third.mask == first.mask
        assert uploads == [third.delta, third.delta, third.mask]

        uploads.clear()
        node.contribute()  # the mask held for three rounds
        fourth = manifest_of(federation, 4)
    assert fourth.mask != first.mask
    assert uploads == [fourth.delta, fourth.mask]
    assert federation.latest().release == 4
    folder = node.begin()[0].masks.folder
    assert len(list(folder.glob("*.safetensors"))) == 2


def test_a_dry_run_lists_the_mask_that_would_leave(
    federation: Federation, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    with aggregating(federation):  # opens the round
        show_what_would_leave(node, as_json=False)
    work, trained = node.prepare()
    assert trained.mask is not None
    size_bytes = work.masks.path(trained.mask).stat().st_size
    assert f"3. the mask, which elements were trained, {size_bytes:,} bytes in " in capsys.readouterr().out
    show_what_would_leave(node, as_json=True)
    said = json.loads(capsys.readouterr().out)["mask"]
    assert (said["size_bytes"], said["is_sent"]) == (size_bytes, False)
