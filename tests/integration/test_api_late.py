"""What was fine-tuned on an older release, contributed from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import wait_until
from tiny_rounds import contribute, finetune, lead, make_changes, make_federation, make_model

import coldfuse
from coldfuse.api.contributing import Offer, Waiting
from coldfuse.api.contributing import contribute as contribute_model
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.names import Identity
from coldfuse.errors import RoundClosedError
from coldfuse.gateway import ContributionVerdict, StoreGateway
from coldfuse.registry.federation import Federation

MODEL = make_model()


def publish(federation: Federation, number: int) -> None:
    for name in ("ada", "ben"):
        contribute(federation, name, make_changes(MODEL, ord(name[0])))
    lead(federation, number)


def state_dict(seed: int) -> dict[str, np.ndarray]:
    return {
        name: tensor.floats.astype(np.float32) for name, tensor in finetune(MODEL, seed).items() if tensor.spec.is_fused
    }


def test_a_model_of_an_older_release_is_taken_where_the_rules_say_so(tmp_path: Path) -> None:
    held = make_federation(tmp_path, MODEL, late="rebase", staleness="polynomial")
    lead(held)
    with coldfuse.connect(held.store.url) as federation:
        federation.fetch(tmp_path / "old")
        publish(held, 1)
        lead(held, 2)
        wait_until(lambda: federation.status().round.number == 2, "a status that is newer than the round")
        sent = federation.contribute(state_dict(9), num_examples=1, name="cy", wait=False)
    lead(held, 2)
    assert sent.base_release == 0
    assert [a.base_release for a in held.journal(2).state().admitted.values()] == [0]


class ClosingGateway(StoreGateway):
    """Has the round closed by others before the first commit, and an aggregator look whenever somebody asks."""

    def __init__(self, federation: Federation) -> None:
        super().__init__(federation)
        self.held, self.commits = federation, 0

    def commit(self, manifest: ContributionManifest) -> ContributionVerdict:
        self.commits += 1
        if self.commits == 1:
            publish(self.held, 1)
            lead(self.held, 2)
        return super().commit(manifest)

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        lead(self.held, round_number)
        return super().verdict(round_number, contribution)


@pytest.mark.parametrize("late", ["drop", "next", "rebase"])
def test_who_waits_and_loses_the_race_with_the_end_of_a_round_is_in_the_next_one_if_the_rules_take_it(
    tmp_path: Path, late: str
) -> None:
    held = make_federation(tmp_path, MODEL, late=late)
    lead(held)
    with coldfuse.connect(held.store.url) as federation:
        base = federation.fetch(tmp_path / "model").path
    offer = Offer(
        model=state_dict(9), base=base, release=0, base_digest=held.release(0).model_digest,
        who=Identity.of("cy"), num_examples=1,
    )  # fmt: skip
    with ClosingGateway(held) as gateway:
        waiting = Waiting(is_wanted=True, until_s=None)
        if late == "drop":
            with pytest.raises(RoundClosedError):
                contribute_model(gateway, offer, waiting, progress=None)
            assert gateway.commits == 1
            return
        acknowledged = contribute_model(gateway, offer, waiting, progress=None)
        assert (gateway.commits, acknowledged.round, acknowledged.is_admitted) == (2, 2, True)
