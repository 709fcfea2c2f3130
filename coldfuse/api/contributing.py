"""From a fine-tuned model to a contribution that is acknowledged, and to its verdict."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from coldfuse.api.finetuned import FineTuned
from coldfuse.api.models import Model, open_finetuned
from coldfuse.api.values import Acknowledgement
from coldfuse.contributor.brought import bring_statistics
from coldfuse.contributor.manifest import software
from coldfuse.contributor.signing import hand_in
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.names import Identity
from coldfuse.core.serialization import blob_digest
from coldfuse.core.statistics import ContributedStatistics
from coldfuse.durable import explained
from coldfuse.errors import ContributionRejectedError, RoundClosedError, TransportError, UserInputError
from coldfuse.gateway import ContributionVerdict, Decision, Gateway, OnProgress, Status
from coldfuse.naming.sharing import Share
from coldfuse.tensors.changes import write_changes
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.encodings import Encoding
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_file import read_file_header


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a contributor offers."""

    model: Model
    """Fine-tuned model."""
    base: Path
    """Folder of the release that it was made from, as a fetch has left it."""
    release: int
    """Number of that release."""
    base_digest: str
    """Model digest of that release."""
    who: Identity
    """Name of the contributor."""
    num_examples: int
    """Distinct examples that the model was trained on."""
    encoding: Encoding = "F32"
    """Dtype in which the delta travels."""
    statistics: Path | None = None
    """File of the model's statistics; None for none."""
    share: Share = None
    """Patterns of what is shared, by the base's names; None: all that it has."""
    edit: str | None = None
    """Name of the edit that it is; None: it is none."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How long to wait for the aggregator."""

    is_wanted: bool
    """True to wait: for the round to open, and then for the verdict."""
    until_s: float | None
    """Time on the monotonic clock after which waiting ends in an error; None: never."""

    def pause(self, status: Status, what: str) -> None:
        """Wait before the federation is asked again."""
        left_s = float("inf") if self.until_s is None else self.until_s - time.monotonic()
        if left_s <= 0:
            raise TransportError(f"waited in vain {what}: {status.round.waits_for}")
        time.sleep(min(status.poll_after_s, left_s))


def contribute(gateway: Gateway, offer: Offer, waiting: Waiting, *, progress: OnProgress | None) -> Acknowledgement:
    """Subtract the base, send the delta, and wait for the verdict if that is wanted.

    Raises:
        UserInputError: The model cannot be read, has values that are not finite, or is the base itself.
        SchemaMismatchError: It is no fine-tuned copy of the base.
        RoundClosedError: Another release is out, or no round is open and nobody waits for one.
        ContributionRejectedError: The gateway or the aggregator has rejected the contribution; the message says why.
    """
    status = _await_round(
        gateway, offer, Waiting(is_wanted=False, until_s=None)
    )  # before any work: is it the latest base?
    _require_statistics(offer, status)
    with ExitStack() as stack:
        stack.enter_context(explained(Path(tempfile.gettempdir()), "used"))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="coldfuse-"))
        delta = Path(folder) / "delta.safetensors"
        base = open_checkpoint(offer.base)
        finetuned = open_finetuned(offer.model, base, Path(folder) / "adapter", stack).only(offer.share)
        blob = _write(delta, base, finetuned, offer)
        with LocalFile(delta).open() as file:
            report = gateway.upload(blob, file.read_into, progress=progress)
        brought = _bring_statistics(gateway, offer, base, blob, Path(folder), progress=progress)
    while True:
        status = _await_round(gateway, offer, waiting, is_open=waiting.is_wanted)
        try:
            manifest = _manifest(offer, blob, brought, status, trained=finetuned.trained)
            verdict = hand_in(gateway, manifest)
            acknowledged = Acknowledgement(
                round=status.round.number, base_release=offer.release, verdict=verdict, delta_bytes=blob.size_bytes,
                sent_bytes=report.sent_bytes, left_out=finetuned.left_out, unchanged=finetuned.unchanged,
            )  # fmt: skip
            if not waiting.is_wanted:
                return acknowledged
            return acknowledged.with_verdict(_verdict(gateway, acknowledged, waiting))
        except RoundClosedError:
            if not (waiting.is_wanted and _is_next_round_its(gateway, status, waiting)):
                raise


def _is_next_round_its(gateway: Gateway, before: Status, waiting: Waiting) -> bool:
    """Tell whether what was too late for a round can go to another one; by the same round it was refused for good."""
    if before.rules.late == "drop":
        return False
    waiting.pause(before, "for a round to open")  # a status may be from before the refusal
    now = gateway.status().round
    return now.number != before.round.number or not now.is_open


def _write(path: Path, base: Checkpoint, finetuned: FineTuned, offer: Offer) -> Blob:
    blob = write_changes(path, base.schema, finetuned.changes, dtype=offer.encoding, base_digest=offer.base_digest)
    if not read_file_header(path).tensors:  # it would count for the quorum, and hold the others back
        raise UserInputError(
            f"nothing differs from release {offer.release} in what was given; give the model that was fine-tuned"
        )
    return blob


def _require_statistics(offer: Offer, status: Status) -> None:
    if status.statistics.is_required and offer.statistics is None:
        kind = status.statistics.kind
        raise UserInputError(
            f"the federation's method asks for {kind} statistics beside every delta; compute them with coldfuse "
            f"statistics MODEL --kind {kind}, and give statistics=FILE"
        )


def _bring_statistics(
    gateway: Gateway, offer: Offer, base: Checkpoint, delta: Blob, folder: Path, *, progress: OnProgress | None
) -> ContributedStatistics | None:
    """Code the statistics and upload them; None where there are none, or nobody asks for any."""
    if offer.statistics is None:
        return None
    out = folder / "statistics.safetensors"
    brought = bring_statistics(
        offer.statistics, out, base=base.schema, rule=gateway.status().statistics, delta=delta,
        model=_digest_of(offer.model),
    )  # fmt: skip
    if brought is not None:
        with LocalFile(out).open() as file:
            gateway.upload(brought.file, file.read_into, progress=progress)
    return brought


def _digest_of(model: Model) -> str | None:
    """Return the digest of a model folder, which its statistics name; None for what has none."""
    if not isinstance(model, str | os.PathLike) or not (Path(model) / "config.json").is_file():
        return None
    return open_checkpoint(Path(model)).digest()


def _manifest(
    offer: Offer, delta: Blob, statistics: ContributedStatistics | None, status: Status, *, trained: str
) -> ContributionManifest:
    return ContributionManifest.model_validate({
        "federation": status.federation, "contributor": offer.who.id,
        "display_name": offer.who.display_name, "is_named": offer.who.is_named or None, "round": status.round.number,
        "base_release": offer.release, "base_digest": offer.base_digest, "encoding": offer.encoding,
        "num_examples": offer.num_examples, "num_steps": 0, "trained": trained, "delta": delta,
        "delta_digest": blob_digest(delta), "software": software(), "statistics": statistics,
        "edit": offer.edit,
    })  # fmt: skip


def _await_round(gateway: Gateway, offer: Offer, waiting: Waiting, *, is_open: bool = False) -> Status:
    """Return the status, once a round is open where that is asked for; it must take what was made from the base."""
    while True:
        status = gateway.status()
        age = status.latest.number - offer.release
        if not 0 <= age <= status.rules.oldest:
            policy = "" if status.rules.late == "drop" else f", and {status.rules.lateness}"
            raise RoundClosedError(
                f"the model was made from release {offer.release}, and release {status.latest.number} is out{policy}; "
                "fetch that and train on it"
            )
        if not age and status.latest.model_digest != offer.base_digest:
            raise UserInputError(f"{offer.base}: a release of another federation; fetch this one's, and train on it")
        if status.round.is_open or not is_open:
            return status
        waiting.pause(status, "for a round to open")


def _verdict(gateway: Gateway, acknowledged: Acknowledgement, waiting: Waiting) -> ContributionVerdict:
    """Wait for the verdict; raise if it is no."""
    while (verdict := gateway.verdict(acknowledged.round, acknowledged.contribution)).decision is Decision.PENDING:
        waiting.pause(gateway.status(), "for the verdict")
    if verdict.decision is Decision.REJECTED:
        kind = RoundClosedError if verdict.is_late else ContributionRejectedError
        raise kind(f"rejected: {verdict.reason}")
    return verdict
