"""A real gateway and an aggregator at work, and somebody who sends them what no honest node sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from commands import wait_until
from tiny_rounds import make_changes, make_contribution, make_federation, make_model, read_release

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import canonical_json, encode, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ColdfuseError
from coldfuse.gateway import Decision
from coldfuse.registry.federation import Federation
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.server import serve_gateway
from coldfuse.transport.status import is_transient

MODEL = make_model()
Changes = Mapping[str, np.ndarray]


@dataclass
class Place:
    """A federation that is at work."""

    federation: Federation
    client: GatewayClient
    stub: gateway_pb2_grpc.GatewayStub
    aggregator: threading.Thread

    def send(self, name: str, changes: Changes, **different: object) -> str:
        """Contribute through the gateway; the parts are laid into the store beside it."""
        manifest = make_contribution(self.federation, name, changes, **different)  # type: ignore[arg-type]
        return self.client.commit(manifest).contribution

    def verdict(self, contribution: str, number: int) -> tuple[Decision, str]:
        """Wait for a verdict."""
        wait_until(lambda: self.client.verdict(number, contribution).decision is not Decision.PENDING, "a verdict")
        verdict = self.client.verdict(number, contribution)
        return verdict.decision, verdict.reason

    def wait_for_round(self, number: int) -> None:
        def is_open() -> bool:
            now = self.client.status().round
            return now.is_open and now.number == number

        wait_until(is_open, f"round {number}")

    def honest_round(self, number: int) -> None:
        """Let two honest contributors make a release, as proof that everything works."""
        self.wait_for_round(number)
        for index in range(2):
            self.send(f"honest{index}", make_changes(MODEL, 100 * number + index))
        wait_until(lambda: self.federation.latest().round == number, f"the release of round {number}")
        assert self.aggregator.is_alive()
        assert [each.name.number for each in self.client.releases()][-1] == 0


@contextmanager
def at_work(root: Path, **options: object) -> Iterator[Place]:
    federation, stop = make_federation(root, MODEL, **options), threading.Event()  # type: ignore[arg-type]
    settings = AggregatorSettings(poll_s=0.02, lease_ttl_s=5.0)

    def lead() -> None:
        for _ in serve_rounds(federation, ThreadExecutor(1), settings, stop=stop):
            pass

    aggregator = threading.Thread(target=lead, daemon=True)
    aggregator.start()
    try:
        with (
            serve_gateway(federation) as gateway,
            grpc.insecure_channel(gateway.address) as channel,
            GatewayClient(gateway.address, retry_s=5.0) as client,
        ):
            place = Place(federation, client, gateway_pb2_grpc.GatewayStub(channel), aggregator)
            place.wait_for_round(1)
            yield place
    finally:
        stop.set()
        aggregator.join(30)


def refusal(place: Place, manifest: bytes) -> grpc.RpcError | None:
    try:
        place.stub.Commit(pb.CommitRequest(manifest_json=manifest))
    except grpc.RpcError as error:
        return error
    return None


def lies() -> dict[str, object]:
    """Return fields of a manifest that are lies, and raw texts."""
    return {
        "num_examples": [10**400, 2**64, 2**41, 0, -1, "7", 7.0, True, None],
        "num_steps": [10**30, -1, "1", True],
        "round": [10**300, 2**53, 0, -1, "1", True, 2],
        "base_release": [10**30, 5, True, -1],
        "score": [{"before": 0, "after": 1e308}, {"before": 0, "after": 2}, {"before": -1, "after": 1}, 5],
        "software": [{f"s{i}": "x" for i in range(20_000)}, {"a": "\x1b[2J"}, {"a\n": "1"}],
        "encoding": ["F64", "f32", 1],
        "contributor": ["../../x", "A", "", "a" * 64],
        "display_name": ["\u202eecila", "alice", "a/b"],
        "federation": ["0" * 64],
        "delta": [{"parts": []}, {"parts": [{"digest": "0" * 64, "size_bytes": 1}]}, {"parts": "x"}],
    }


def test_no_manifest_stops_anybody_and_each_is_told_for_good_what_is_wrong(tmp_path: Path) -> None:
    with at_work(tmp_path) as place:
        good = json.loads(encode(make_contribution(place.federation, "mallory", make_changes(MODEL, 1))))
        texts = [canonical_json(good | {field: value}) for field, values in lies().items() for value in values]
        texts += [
            canonical_json(good)[:-1] + b',"num_steps":7}',
            canonical_json(good)[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
            canonical_json(good)[:-1] + b',"x":NaN}',
            b"{" * 100_000,
            b"\xff\xfe" + canonical_json(good),
            canonical_json(good).replace(b'"num_steps":10', b'"num_steps":' + b"9" * 100_000),
            b"",
            b"null",
        ]
        told = {text: refusal(place, text) for text in texts}
        assert [text[:2000] for text, error in told.items() if error is None] == []
        assert [error.details() for error in told.values() if error and is_transient(error)] == []
        assert all(len(error.details()) < 1000 and error.details().isprintable() for error in told.values() if error)
        place.honest_round(1)


def test_no_delta_is_fused_that_is_none(tmp_path: Path) -> None:
    """All of them pass the gateway, which reads no delta; the aggregator says to each what is wrong."""
    with at_work(tmp_path, quorum=2, method="mean then fedyogi") as place:
        place.honest_round(1)
        place.wait_for_round(2)
        first = make_changes(MODEL, 50)
        sent = {
            "empty": {},
            "zeros": {name: np.zeros_like(values) for name, values in first.items()},
            "huge": first | {"scale": np.float32(1e30).reshape(())},
            "large": first | {"scale": np.float32(65536).reshape(())},
            "nan": first | {"scale": np.float32(np.nan).reshape(())},
            "infinite": first | {"scale": np.float32(-np.inf).reshape(())},
        }
        verdicts = {}
        for name, changes in sent.items():
            verdicts[name] = place.verdict(place.send(name, changes), 2)
        lie = make_contribution(place.federation, "liar", first, encoding="F16").model_copy(update={"encoding": "F32"})
        verdicts["liar"] = place.verdict(place.client.commit(lie).contribution, 2)
        original = place.send("original", first)
        assert place.verdict(original, 2)[0] is Decision.ADMITTED
        for name, factor in (("same", 1.0), ("scaled", 0.01), ("turned", -1.0)):
            copy = {tensor: np.float32(factor) * values for tensor, values in first.items()}
            verdicts[name] = place.verdict(place.send(name, copy), 2)
        assert {name for name, (decision, _) in verdicts.items() if decision is not Decision.REJECTED} == set()
        before = {name: tensor for name, tensor in read_release(place.federation).items() if tensor.spec.is_fused}
        place.send("honest", make_changes(MODEL, 51))
        wait_until(lambda: place.federation.latest().round == 2, "release 2")
        after = read_release(place.federation)
        assert {each.contributor for each in place.federation.latest().contributions} == {"original", "honest"}
        assert all(np.abs(after[name].floats - tensor.floats).max() < 1 for name, tensor in before.items())
        place.honest_round(3)


def test_one_client_under_many_names_makes_no_release_of_nothing(tmp_path: Path) -> None:
    with at_work(tmp_path, quorum=2) as place:
        sent = [place.send(f"sybil{index}", {}) for index in range(5)]
        changes = make_changes(MODEL, 1)
        sent += [place.send(f"sybil{index}", changes) for index in range(5, 10)]
        decisions = [place.verdict(contribution, 1)[0] for contribution in sent]
        assert decisions.count(Decision.ADMITTED) == 1
        assert place.federation.latest().release == 0
        place.send("honest", make_changes(MODEL, 2))
        wait_until(lambda: place.federation.latest().round == 1, "release 1")


def test_a_part_that_is_named_for_another_is_no_delta(tmp_path: Path) -> None:
    """A manifest may name anything that lies in the store: a part of the base, the manifest of another."""
    with at_work(tmp_path, quorum=2) as place:
        ours = make_contribution(place.federation, "ada", make_changes(MODEL, 1))
        stolen: list[ContributionManifest] = []
        base = place.federation.latest().files["model.safetensors"]
        for index, delta in enumerate((base, ours.delta.model_copy(update={"parts": ours.delta.parts[::-1]}))):
            digest = sha256(canonical_json([[part.digest, part.size_bytes] for part in delta.parts]))
            changed = {"delta": delta, "delta_digest": digest, "contributor": f"thief{index}"}
            stolen.append(ours.model_copy(update=changed))
        for manifest in stolen:
            try:
                contribution = place.client.commit(manifest).contribution
            except ColdfuseError:
                continue  # refused at the door
            assert place.verdict(contribution, 1)[0] is Decision.REJECTED
        place.honest_round(1)
