"""An edit's file is trained on and contributed from Python: by the node that `coldfuse contribute --edit` runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coldfuse.api.participating import log_event
from coldfuse.api.values import Acknowledgement
from coldfuse.contributor.editing import edit_settings
from coldfuse.contributor.events import StoppedError
from coldfuse.contributor.node import Node
from coldfuse.contributor.state import NodeFolder
from coldfuse.core.given_edit import GivenEdit
from coldfuse.core.names import Identity
from coldfuse.errors import RoundClosedError, TransportError
from coldfuse.gateway import Gateway, OnProgress
from coldfuse.tensors.encodings import Encoding
from coldfuse.training.settings import TrainingSettings


def contribute_edit(  # noqa: PLR0913 - what there is to say, by keyword
    gateway: Gateway,
    given: GivenEdit,
    *,
    who: Identity,
    work: Path,
    training: TrainingSettings | None,
    encoding: Encoding,
    timeout_s: float | None,
    progress: OnProgress | None,
) -> Acknowledgement:
    """Train on the file, send what came of it, and wait for the verdict; killed and called again, it goes on.

    Args:
        gateway: The federation's gateway.
        given: The edit, with its file.
        who: As whom.
        work: The node's folder.
        training: Settings of the fine-tuning; None: those of an edit.
        encoding: Dtype in which the delta travels.
        timeout_s: Seconds after which training or waiting ends in a `TransportError`; None: never.
        progress: Called with the bytes that are uploaded, and those in all.

    Raises:
        UserInputError: The file is none of an edit, the base gives no answers, or another node works in the folder.
        NoGainError: What was trained does not beat the base on the file's own rows; nothing was sent.
        ContributionRejectedError: It was rejected; the message says why.
        TransportError: Time is up.
    """
    settings = edit_settings(
        given, who.display_name or who.id, training=training, encoding=encoding, is_named=who.is_named
    )
    folder, stop = NodeFolder(work.absolute()), threading.Event()
    node = _Watched(settings, folder, gateway, log_event, stop, progress)
    with folder.held(alone=False), _set_after(stop, timeout_s):
        try:
            base = node.contribute(wait_for_release=False)
        except StoppedError:
            raise TransportError(
                f"waited in vain for {timeout_s:g} s; called again with the same edit, it goes on from here"
            ) from None
        sent = folder.work_on(base).sent()
    if sent is None or sent.trained is None:
        raise RoundClosedError(f"what was trained on release {base} counts nowhere any more; contribute it again")
    size_bytes = sent.trained.delta.size_bytes
    return Acknowledgement(
        round=sent.round, base_release=base, verdict=gateway.verdict(sent.round, sent.contribution),
        delta_bytes=size_bytes, sent_bytes=size_bytes, left_out=(), unchanged=(),
    )  # fmt: skip


@dataclass(frozen=True)
class _Watched(Node):
    """A node whose upload somebody watches."""

    progress: OnProgress | None = None
    """Callback for the bytes that are uploaded, and those in all."""

    def _transfer_progress(self, phase: str, base: int) -> OnProgress:
        said = super()._transfer_progress(phase, base)
        return self.progress if phase == "uploading" and self.progress is not None else said


@contextmanager
def _set_after(stop: threading.Event, timeout_s: float | None) -> Iterator[None]:
    """Set the event once time is up, as long as the block runs."""
    timer = None if timeout_s is None else threading.Timer(timeout_s, stop.set)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
