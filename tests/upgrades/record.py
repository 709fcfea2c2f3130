"""Record a store, two nodes' folders and a client's session, as the code that is imported writes them.

    cd <older code> && PYTHONPATH=.:<this folder's parent> python -m upgrades.record <this code>/tests/data/layout_1

The model is random and tiny. What is recorded: releases 0 to 2 with an outer step's state and a residual, a round that
was abandoned, changed settings, and an open round that carries one contribution, has admitted one, rejected one, and
has one without a verdict; the folder of the node that made that last one, and of one in the middle of its training;
every message of a session with a gateway, in which one more contribution is committed; and what the same code makes of
it all. `tests/integration/test_upgrades.py` asks the same of today's code.
"""

from __future__ import annotations

import base64
import json
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from reviews import write_reviews
from tiny_model import VOCABULARY_SIZE, write_tokenizer
from tiny_rounds import contribute, lead, make_contribution, store_delta
from wire_proxy import Exchange, WireProxy

from coldfuse.aggregator.model import open_base
from coldfuse.consumer import fetch
from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.contributor.node import Node, NodeSettings
from coldfuse.contributor.state import NodeFolder
from coldfuse.core.federation import ChangeableSettings
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import blob_digest
from coldfuse.data.dataset import split
from coldfuse.data.reading import read_dataset
from coldfuse.gateway import Gateway, StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.storage import LocalStore
from coldfuse.training.job import TrainingSettings
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2
from coldfuse.transport.server import GatewaySettings, serve_gateway

METHOD = "mean then nesterov"
TRAINING = TrainingSettings(
    num_epochs=2, batch_size=4, learning_rate=3e-3, threads=1, device="cpu", seed=3, dropout=0.0
)
LONG_S = 1e8
"""Deadline of the rounds that are not to end by it: years."""
SCALE = 0.004
"""Standard deviation of the deltas that are made up: about that of the one that is trained."""


def main(out: Path) -> None:
    """Write the recording into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        federation = make_store(work)
        training, sent = record_nodes(federation, work)
        pack(work / "store", out / "store.tar.gz")
        pack(training, out / "node_training.tar.gz")
        pack(sent, out / "node_sent.tar.gz")
        expected = {"training": asdict(TRAINING), "method": METHOD} | describe(federation)
        alone = open_federation(LocalStore(unpack(out / "store.tar.gz", work / "alone")))
        expected["without_session"] = outcome_of(alone)
        calls = record_session(federation, work)
        expected["with_session"] = outcome_of(federation)
    (out / "session.json").write_text(json.dumps(calls, indent=1) + "\n")
    (out / "gateway_proto.bin").write_bytes(gateway_pb2.DESCRIPTOR.serialized_pb)
    (out / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def make_store(work: Path) -> Federation:
    """Make a federation that has seen what a federation sees; its fourth round is open."""
    rules = {"quorum": 2, "deadline_s": LONG_S}
    federation = create_federation(
        LocalStore(work / "store"), name="Förderverein", base=write_model(work / "base"), origin="random",
        method=METHOD, rules=rules,
    )  # fmt: skip
    for number in (1, 2):
        now(federation, number)
        send(federation, "ada", seed=10 * number)
        send(federation, "klinik-koln-a41d4b1e67", seed=10 * number + 1, display_name="Klinik Köln")
        now(federation, number)
    change(federation, quorum=4, deadline_s=60.0)
    now(federation, 3)
    send(federation, "ada", seed=30)
    now(federation, 3)
    lead(federation, 3, now_s=time.time() + 3600)  # abandoned
    change(federation, quorum=3, deadline_s=LONG_S)
    now(federation, 4)
    send(federation, "bob", seed=41)
    now(federation, 4)
    send(federation, "eve", seed=42, scale=np.nan)
    now(federation, 4)
    return federation


def now(federation: Federation, number: int) -> None:
    lead(federation, number, now_s=time.time())


def change(federation: Federation, **wanted: object) -> None:
    settings, etag = read_settings(federation.store)
    wanted_settings = ChangeableSettings.model_validate(wanted)
    write_change(federation.store, settings, etag, wanted_settings, by="ann", after_release=federation.latest().release)


def send(federation: Federation, name: str, *, seed: int, scale: float = SCALE, **different: object) -> str:
    return contribute(federation, name, changes_of(federation, seed, scale), **different)


def changes_of(federation: Federation, seed: int, scale: float = SCALE) -> dict[str, np.ndarray]:
    """Make up a delta of every tensor that can be fused."""
    rng = np.random.default_rng(seed)
    schema = open_base(federation, federation.latest()).schema
    shapes = {name: spec.shape for name, spec in sorted(schema.items()) if spec.is_fused}
    return {name: (rng.normal(size=shape) * scale).astype(np.float32) for name, shape in shapes.items()}


def write_model(folder: Path) -> Path:
    """Write a BERT of some 4,000 numbers in BF16."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def record_nodes(federation: Federation, work: Path) -> tuple[Path, Path]:
    """Run a node into the middle of its training, and another until it has committed; return their folders."""
    training = run_node(
        federation,
        work / "dan",
        name="dan",
        is_end=lambda event: event.phase == "training" and "step 7" in event.message,
    )
    return training, run_node(federation, work / "cy", name="cy", is_end=lambda event: event.phase == "committed")


def run_node(federation: Federation, folder: Path, *, name: str, is_end: Callable[[NodeEvent], bool]) -> Path:
    """Run a node until it says something; its data lie beside what it keeps."""
    folder.mkdir()
    write_reviews(folder / "data.csv", num=40, subject=name)
    try:
        node_of(federation, folder, name=name, training=TRAINING, is_end=is_end)[0].run(rounds=1)
    except StoppedError:
        return folder
    raise AssertionError(f"{name} was done before it could be stopped")


def node_of(
    federation: Federation,
    folder: Path,
    *,
    name: str,
    training: TrainingSettings,
    is_end: Callable[[NodeEvent], bool],
    gateway: Gateway | None = None,
) -> tuple[Node, list[NodeEvent]]:
    """Make a node on a store, or on its gateway, and the list that its events go to; it stops after the last one."""
    stop, events = threading.Event(), list[NodeEvent]()

    def report(event: NodeEvent) -> None:
        events.append(event)
        if is_end(event):
            stop.set()

    train, validation = split(read_dataset([folder / "data.csv"]), seed=training.seed)
    settings = NodeSettings(name=name, train=train, validation=validation, training=training)
    return Node(settings, NodeFolder(folder / "node"), gateway or StoreGateway(federation), report, stop), events


def record_session(federation: Federation, work: Path) -> list[dict[str, object]]:
    """Do all that clients do, through a proxy that notes every message."""
    changes = changes_of(federation, 43)
    other = Federation(LocalStore(work / "other"), federation.settings)  # `fay`'s own disk
    schema = open_base(federation, federation.latest()).schema
    base_digest = federation.latest().model_digest
    delta = store_delta(other.objects, schema, changes, encoding="F32", base_digest=base_digest)
    manifest = make_contribution(federation, "fay", {}, delta=delta, num_examples=77)
    manifest = manifest.model_copy(update={"delta": delta, "delta_digest": blob_digest(delta)})
    with (
        serve_gateway(federation, GatewaySettings(tune_allocator=False)) as gateway,
        WireProxy(gateway.address) as proxy,
        GatewayClient(proxy.address) as client,
    ):
        client.status()
        list(client.releases())
        client.release(1)
        fetch(client, work / "fetched")
        client.upload(delta, other.objects.open(delta).read_into)
        verdict = client.commit(manifest)
        client.verdict(manifest.round, verdict.contribution)
        return [written(call) for call in proxy.calls]


def written(call: Exchange) -> dict[str, object]:
    requests, responses = (
        [base64.b64encode(each).decode() for each in side] for side in (call.requests, call.responses)
    )
    return {"method": call.method, "requests": requests, "responses": responses}


def describe(federation: Federation) -> dict[str, object]:
    """Return what a reader finds in the store as it was recorded."""
    state = federation.journal(4).state()
    assert state.opened is not None
    assert len(state.opened.carried) == 1
    assert (len(state.admitted), len(state.rejected), len(state.waiting)) == (2, 1, 1)
    return {
        "federation": federation.settings.federation,
        "name": federation.settings.name,
        "display_name": federation.settings.display_name,
        "releases": {str(number): outcome(federation.release(number)) for number in range(3)},
        "changes": [str(each) for each in open_federation(federation.store).changes()],
        "opened_at_s": state.opened.opened_at_s,
        "admitted": sorted(state.admitted),
        "rejected": {digest: rejection.reason for digest, rejection in state.rejected.items()},
        "waiting": [received.contribution for received in state.waiting],
        "abandoned": federation.journal(3).state().abandoned.reason,
    }


def outcome_of(federation: Federation) -> dict[str, object]:
    """Lead the open round to its release."""
    lead(federation, 4, now_s=federation.journal(4).state().opened.opened_at_s + 10)
    assert federation.latest().release == 3
    return outcome(federation.latest())


def outcome(manifest: ReleaseManifest) -> dict[str, object]:
    """Return what of a release does not depend on when it was made."""
    document = manifest.model_dump(mode="json")
    return {name: document[name] for name in ("model_digest", "files", "contributions", "outer", "moved", "method")}


def pack(folder: Path, archive: Path) -> None:
    """Write a folder into an archive that is the same whenever it is made."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
        return entry

    with tarfile.open(archive, "w:gz", compresslevel=9) as tar:
        tar.add(folder, arcname=".", filter=plain)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive into a folder, and return that."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]))
