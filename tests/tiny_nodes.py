"""Nodes that train nothing and do all else as nodes do, and an aggregator on threads, for hand-made models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tiny_rounds import make_changes, make_model

from coldfuse.aggregator.examining import Examiner
from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.contributor.sender import Sender
from coldfuse.contributor.state import NodeFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.blob import Blob, Part
from coldfuse.core.dtypes import from_floats
from coldfuse.core.names import Identity
from coldfuse.core.serialization import sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.gateway import Gateway
from coldfuse.registry.federation import Federation
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import parse_header
from coldfuse.tensors.parts import plan_parts
from coldfuse.webhooks import Outgoing

MODEL = make_model()


@dataclass(frozen=True)
class _Offer:
    name: str

    @property
    def who(self) -> Identity:
        return Identity.of(self.name)

    def work_digest(self) -> str:
        return sha256(self.name.encode())


@dataclass
class TinyNode:
    """A contributor whose delta of a release follows from its name and the release's number."""

    name: str
    client: Gateway
    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    events: list[NodeEvent] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sender = Sender(_Offer(self.name), NodeFolder(self.folder), self.client, self.events.append, self.stop)

    def run(self) -> None:
        """Contribute round after round until stopped."""
        try:
            with self.sender.folder.held(alone=False):
                while not self.stop.is_set():
                    self.contribute()
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - the test has to know
            self.failed.append(error)

    def contribute(self) -> None:
        """Take part once, as `Node.contribute` does."""
        while True:
            work, trained = self.sender.kept() or self._prepare()
            if self.sender.deliver(work, trained):
                return

    def _prepare(self):  # type: ignore[no-untyped-def]
        work, base = self.sender.begin()
        trained = work.trained(base_digest=base.model_digest, work_digest=self.sender.settings.work_digest())
        if trained is None:
            changes = make_changes(MODEL, sum(self.name.encode()) + base.release)
            schema = {name: tensor.spec for name, tensor in MODEL.items()}
            header = delta_header(schema, changes, encoding="F32", base_digest=base.model_digest)
            body = b"".join(from_floats(changes[name].reshape(-1), "F32").tobytes() for name in sorted(changes))
            data = header + body
            work.delta.write_bytes(data)
            cuts = [data[p.start : p.start + p.size_bytes] for p in plan_parts(parse_header(header[8:], what="test"))]
            trained = Trained(
                base_release=base.release, base_digest=base.model_digest, num_examples=10, num_steps=1, score=None,
                work_digest=self.sender.settings.work_digest(), encoding="F32",
                delta=Blob(parts=tuple(Part(digest=sha256(cut), size_bytes=len(cut)) for cut in cuts)),
            )  # fmt: skip
            work.forget_sent()
            work.save_trained(trained)
        return work, trained


@contextmanager
def running(*nodes: TinyNode) -> Iterator[None]:
    """Let nodes run, each in a thread, until the block ends; none may fail."""
    threads = [threading.Thread(target=node.run, name=node.name) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for node in nodes:
            node.stop.set()
        for thread in threads:
            thread.join()
    assert [node.failed for node in nodes] == [[] for _ in nodes]


@contextmanager
def aggregating(
    federation: Federation,
    *,
    outgoing: Outgoing | None = None,
    examiner: Examiner | None = None,
    lease_ttl_s: float = 1.0,
) -> Iterator[list[tuple[int, str]]]:
    """Lead until the block ends; yield what is appended to journals meanwhile."""
    stop, events, failed = threading.Event(), list[tuple[int, str]](), list[BaseException]()
    settings = AggregatorSettings(
        poll_s=0.01, lease_ttl_s=lease_ttl_s, outgoing=outgoing or Outgoing(), examiner=examiner
    )

    def lead() -> None:
        try:
            for number, event in serve_rounds(federation, ThreadExecutor(1), settings, stop=stop):
                events.append((number, event.event))
        except BaseException as error:  # noqa: BLE001 - the test has to know
            failed.append(error)

    thread = threading.Thread(target=lead, name="aggregator")
    thread.start()
    try:
        yield events
    finally:
        stop.set()
        thread.join()
    assert not failed, failed
