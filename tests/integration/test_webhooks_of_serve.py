"""`coldfuse serve` as a process, and receivers of its webhooks of every bad kind: no round waits for any of them."""

from __future__ import annotations

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import coldfuse, wait_until
from operators import Person
from tiny_nodes import MODEL
from tiny_rounds import contribute, make_changes, make_federation

from coldfuse.registry.federation import Federation

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
LONG_S = 900.0
CLOSED, RELEASED = "coldfuse.round.closed", "coldfuse.release.published"


@dataclass
class Receivers:
    """One HTTP server that behaves as each path says."""

    asked: dict[str, list[dict[str, object]]] = field(default_factory=lambda: defaultdict(list))
    """Every message that came, by path."""
    taken: list[dict[str, object]] = field(default_factory=list)
    """What `/fails-at-first` has taken, in order."""
    is_over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        receivers = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receivers.asked[self.path].append(message)
                if self.path == "/slow":
                    receivers.is_over.wait()
                elif self.path == "/fails-at-first" and len(receivers.asked[self.path]) > 1:
                    receivers.taken.append(message)
                    self.answer(200)
                elif self.path != "/closes":
                    self.answer(500)
                self.close_connection = True

            def answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    made = Receivers()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.is_over.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def play(federation: Federation, release: int) -> None:
    """Contribute to the round that opens, and wait for its release."""
    number = release  # nothing is abandoned
    wait_until(lambda: federation.journal(number).state().is_open, f"round {number}", limit_s=LONG_S)
    for seed, name in enumerate(("ada", "ben")):
        contribute(federation, name, make_changes(MODEL, 10 * release + seed))
    wait_until(lambda: federation.channel("latest").release == release, f"release {release}", limit_s=LONG_S)


def test_no_round_waits_for_receivers_that_fail_hang_hang_up_or_never_take_anything(
    tmp_path: Path, receivers: Receivers
) -> None:
    federation, secret = make_federation(tmp_path, MODEL, deadline_s=3600.0), tmp_path / "secret"
    secret.write_text(SECRET)
    paths = ("/fails-at-first", "/slow", "/closes", "/fails-forever")
    urls = [word for path in paths for word in ("--webhook", receivers.url(path))]
    Person(tmp_path / "home").succeed("set", federation.store.url, *urls)
    options = ("--webhook-secret", secret, "--webhook-private", "--workers", 1)
    with coldfuse("serve", federation.store.url, *options) as serve:
        for release in (1, 2, 3):
            play(federation, release)
        wait_until(lambda: len(receivers.taken) == 6, "all of it to be taken", limit_s=LONG_S)
        wait_until(lambda: len(receivers.asked["/fails-forever"]) > 1, "the second try", limit_s=LONG_S)
        assert len(receivers.asked["/slow"]) == 1  # it holds on to the first message all the while
        serve.send(15)
        assert serve.wait() == 0, str(serve)
    assert [message["type"] for message in receivers.taken] == [CLOSED, RELEASED] * 3
    assert receivers.asked["/fails-at-first"][0] == receivers.taken[0]  # the same one again
    for path in ("/closes", "/fails-forever"):
        assert {message["id"] for message in receivers.asked[path]} == {receivers.taken[0]["id"]}
    said = str(serve)
    assert SECRET not in said
    assert "/fails-forever" not in said  # an address may hold a secret
