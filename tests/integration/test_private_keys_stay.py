"""Private keys stay in the aggregator's process: none is in what is sent to workers, in the store, or in a log."""

from __future__ import annotations

import base64
import logging
import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rooted import RootedFederation
from tiny_rounds import lead, make_changes, make_model

from coldfuse.engine.execution import ThreadExecutor
from coldfuse.trust.keys import PrivateKey

MODEL = make_model()


class PicklingExecutor(ThreadExecutor):
    """Does with all work what Ray does with it: pickles it before it runs."""

    def __init__(self) -> None:
        super().__init__(1)
        self.sent: list[bytes] = []

    def run(self, task: Any, shared: Any, items: Sequence[Any], **more: Any) -> Iterator[Any]:
        self.sent.append(pickle.dumps((task, shared, list(items))))
        return super().run(task, shared, items, **more)


def secrets_of(key: PrivateKey) -> list[bytes]:
    """Return a private key in the forms in which it could lie somewhere."""
    body = b"".join(key.pem().splitlines()[1:-1])
    der = base64.b64decode(body)
    raw = der[-32:] if key.public.scheme == "ed25519" else der[36:68]
    return [key.pem(), body, der, raw, raw.hex().encode(), base64.b64encode(raw)]


def test_a_round_leaves_no_private_key_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made, executor = RootedFederation(tmp_path), PicklingExecutor()
    ada = made.enroll("ada")
    lead(made.opened(), 1, now_s=time.time())
    made.send("ada", make_changes(MODEL, 0), ada)
    federation = made.opened()
    lead(federation, 1, executor=executor)
    assert federation.channel("latest").release == 1
    assert len(executor.sent) >= 2  # it was screened and fused
    stored = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    places = [*executor.sent, *stored, caplog.text.encode(), repr(federation).encode(), repr(made.keys).encode()]
    keys = [*made.keys.operators, made.keys.aggregator, made.keys.model, ada.signer]
    for key in keys:
        assert isinstance(key, PrivateKey)
        for secret in secrets_of(key):
            assert not any(secret in place for place in places)


def test_what_holds_a_key_is_sent_nowhere(tmp_path: Path) -> None:
    federation = RootedFederation(tmp_path).opened()
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(federation.signer)
