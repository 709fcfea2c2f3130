"""Protobuf to values and back: what one end writes here, the other end reads here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice, pairwise

from pydantic import ValidationError

from coldfuse.core.blob import Part
from coldfuse.core.contribution import is_edit_name
from coldfuse.core.names import id_of, why_no_name
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import FederationError, TransportError, UserInputError
from coldfuse.gateway import (
    MAX_POLL_S,
    MIN_POLL_S,
    ContributionSummary,
    ContributionVerdict,
    Decision,
    ReleaseName,
    ReleaseSummary,
    RoundStatus,
    Status,
)
from coldfuse.gateway.rounds import MAX_NAMES
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.text import plain
from coldfuse.transport.wire_rules import read_gate, read_rules, read_statistics, read_weighting, write_gate

MAX_PARTS_ASKED = 4096
"""Parts that one `FindMissing` asks for at most."""

MAX_PAGE = 100
"""Releases in one page of the history at most."""

MAX_PAGE_BYTES = 2 << 20
"""A page ends early rather than being longer: a release may have ten thousand contributions."""

_MAX_NUMBER = (1 << 32) - 1
"""The largest number of a release or a round that the wire can say."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

_DECISIONS = {
    pb.DECISION_PENDING: Decision.PENDING,
    pb.DECISION_ADMITTED: Decision.ADMITTED,
    pb.DECISION_REJECTED: Decision.REJECTED,
}
_DECISION_NUMBERS = {decision: number for number, decision in _DECISIONS.items()}


def write_status(status: Status) -> pb.GetStatusResponse:
    """Put a status on the wire."""
    return pb.GetStatusResponse(
        protocol_version=status.protocol_version,
        layout_version=status.layout_version,
        federation_digest=status.federation,
        federation_name=status.name,
        method=status.method,
        rules=pb.RoundRules(**status.rules.model_dump()),
        max_contribution_bytes=status.max_contribution_bytes,
        latest=pb.Release(**vars(status.latest)),
        round=pb.Round(**vars(status.round)),
        poll_after_ms=round(status.poll_after_s * 1000),
        federation_display_name=status.display_name,
        statistics=pb.StatisticsRule(**status.statistics.model_dump()) if status.statistics.wanted else None,
        gate=None if status.gate is None else write_gate(status.gate),
        weighting=status.weighting,
        weighed=status.weighed,
    )


def read_status(message: pb.GetStatusResponse) -> Status:
    """Take a status off the wire. Raises `TransportError` if no federation can have it."""
    state = message.round
    if not _DIGEST.fullmatch(message.federation_digest) or not state.number:
        raise TransportError(
            f"the gateway speaks of federation {plain(message.federation_digest)[:80]!r} and round {state.number}, and "
            "there are none such"
        )
    return Status(
        protocol_version=message.protocol_version,
        layout_version=message.layout_version,
        federation=message.federation_digest,
        name=plain(message.federation_name),
        method=plain(message.method),
        rules=read_rules(message.rules),
        max_contribution_bytes=message.max_contribution_bytes,
        latest=_read_name(message.latest),
        round=RoundStatus(
            number=state.number,
            is_open=state.is_open,
            num_received=state.num_received,
            num_admitted=state.num_admitted,
            num_rejected=state.num_rejected,
            contributors=tuple(map(plain, state.contributors[:MAX_NAMES])),
            waits_for=plain(state.waits_for),
            display_names=_read_display_names(state),
            num_active=state.num_active if state.HasField("num_active") else None,
            num_missing=state.num_missing if state.HasField("num_missing") else None,
            left_s=state.left_s if state.HasField("left_s") and math.isfinite(state.left_s) else None,
        ),
        poll_after_s=min(max(message.poll_after_ms / 1000, MIN_POLL_S), MAX_POLL_S),
        display_name=_read_display_name(message.federation_name, message.federation_display_name),
        statistics=read_statistics(message) if message.HasField("statistics") else StatisticsRule(),
        gate=read_gate(message.gate) if message.HasField("gate") else None,
        weighting=read_weighting(message),
        weighed=plain(message.weighed) if message.HasField("weighed") else None,
    )


def require_number(release: int) -> None:
    """Raise `FederationError` for a number that no release has: the wire could not say it."""
    if not 0 <= release <= _MAX_NUMBER:
        raise FederationError(f"there is no release {release}")


def write_which(which: int | str) -> pb.GetReleaseRequest:
    """Ask for a release by number or channel. Raises `FederationError` for a number that no release has."""
    if isinstance(which, int):
        require_number(which)
    return pb.GetReleaseRequest(number=which) if isinstance(which, int) else pb.GetReleaseRequest(channel=which)


def read_which(message: pb.GetReleaseRequest) -> int | str:
    """Return the number or the channel that is asked for."""
    match message.WhichOneof("which"):
        case "number":
            return message.number
        case "channel":
            return message.channel
    raise UserInputError("GetRelease: expected a number or a channel")


def write_page(releases: Iterator[ReleaseSummary], *, page_size: int) -> pb.ListReleasesResponse:
    """Put the first releases of a history on the wire, and where the next page begins; read no more than fit.

    Args:
        releases: The history, newest first and down to release 0.
        page_size: How many are asked for; 0: as many as a page may hold.
    """
    page: list[pb.ReleaseSummary] = []
    size_bytes = 0
    for summary in islice(releases, min(page_size or MAX_PAGE, MAX_PAGE)):
        message = _write_summary(summary)
        size_bytes += message.ByteSize()
        if page and size_bytes > MAX_PAGE_BYTES:
            break
        page.append(message)
    return pb.ListReleasesResponse(releases=page, next_before=(page[-1].release.number if page else 0) or None)


def read_page(message: pb.ListReleasesResponse, *, before: int | None) -> tuple[list[ReleaseSummary], int | None]:
    """Return the releases of a page, and what to give as `before` for the next one; None: this was the last.

    Args:
        message: The page.
        before: What was given for this page.

    Raises:
        TransportError: The releases do not fall from what was asked for to where the next page begins: reading on
            might never end.
    """
    next_before = message.next_before if message.HasField("next_before") else None
    numbers = [summary.release.number for summary in message.releases]
    limits = [before, *numbers] if before is not None else numbers
    falls = all(earlier < later for later, earlier in pairwise(limits))
    if not falls or next_before not in (None, *numbers[-1:]):
        raise TransportError(
            f"the gateway lists releases {numbers[:3]}… before {before} and more before {next_before}, which never ends"
        )
    return [_read_summary(summary) for summary in message.releases], next_before


def write_verdict(verdict: ContributionVerdict) -> pb.Verdict:
    """Put a verdict on the wire."""
    decision = _DECISION_NUMBERS[verdict.decision]
    return pb.Verdict(
        decision=decision, reason=verdict.reason, is_late=verdict.is_late, send_again=verdict.send_again
    )  # fmt: skip


def read_verdict(contribution: str, message: pb.Verdict) -> ContributionVerdict:
    """Take a verdict off the wire; a decision of a newer gateway counts as pending."""
    decision = _DECISIONS.get(message.decision, Decision.PENDING)
    return ContributionVerdict(
        contribution=contribution,
        decision=decision,
        reason=plain(message.reason),
        is_late=message.is_late,
        send_again=message.send_again,
    )


def write_part(part: Part) -> pb.Part:
    """Put a part's name on the wire."""
    return pb.Part(**part.model_dump())


def read_parts(message: pb.FindMissingRequest) -> list[Part]:
    """Return the parts that are asked for, each once."""
    if len(message.parts) > MAX_PARTS_ASKED:
        raise UserInputError(f"FindMissing: {len(message.parts):,} parts, at most {MAX_PARTS_ASKED:,} at a time")
    parts = {part.digest: part for part in message.parts}
    if any(parts[part.digest].size_bytes != part.size_bytes for part in message.parts):
        raise UserInputError("FindMissing: one part is asked for with two sizes")
    return [_read_part(part) for part in parts.values()]


def read_header(message: pb.UploadPartRequest | None) -> Part:
    """Return what an upload declares to bring, from its first message."""
    if message is None or message.WhichOneof("content") != "header":
        raise UserInputError("UploadPart: expected the header first")
    return _read_part(message.header)


def _write_summary(summary: ReleaseSummary) -> pb.ReleaseSummary:
    return pb.ReleaseSummary(
        release=pb.Release(**vars(summary.name)),
        parent=summary.parent,
        round=summary.round,
        method=summary.method,
        num_contributions=summary.num_contributions,
        created_at_s=summary.created_at_s,
        moved=summary.moved,
        cut_error=summary.cut_error,
        replaces=summary.replaces,
        left_out=summary.left_out,
        contributions=[pb.FusedContribution(**vars(fused)) for fused in summary.contributions],
    )


def _read_summary(message: pb.ReleaseSummary) -> ReleaseSummary:
    contributions = tuple(
        ContributionSummary(
            contributor=plain(fused.contributor),
            num_examples=fused.num_examples,
            weight=fused.weight,
            contribution=plain(fused.contribution),
            display_name=_read_display_name(fused.contributor, fused.display_name),
            base_release=fused.base_release if fused.HasField("base_release") else None,
            staleness_weight=fused.staleness_weight if fused.HasField("staleness_weight") else None,
            statistics=plain(fused.statistics) if fused.HasField("statistics") else None,
            score_weight=fused.score_weight if fused.HasField("score_weight") else None,
            edit=fused.edit if is_edit_name(fused.edit) else None,
        )
        for fused in message.contributions
    )
    return ReleaseSummary(
        name=_read_name(message.release),
        parent=message.parent if message.HasField("parent") else None,
        round=message.round,
        method=plain(message.method),
        num_contributions=message.num_contributions,
        created_at_s=message.created_at_s,
        contributions=contributions,
        moved=message.moved if message.HasField("moved") else None,
        cut_error=message.cut_error if message.HasField("cut_error") else None,
        replaces=message.replaces if message.HasField("replaces") else None,
        left_out=tuple(digest for digest in message.left_out if _DIGEST.fullmatch(digest)),
    )


def _read_display_names(message: pb.Round) -> dict[str, str]:
    read = {who: _read_display_name(who, message.display_names.get(who, "")) for who in message.contributors}
    return {who: name for who, name in read.items() if name is not None}


def _read_display_name(name_id: str, text: str) -> str | None:
    """Return a name for people, if it is one and has this id: nobody is shown under another's name."""
    return text if why_no_name(text) is None and id_of(text) == name_id and text != name_id else None


def _read_part(message: pb.Part) -> Part:
    try:
        return Part(digest=message.digest, size_bytes=message.size_bytes)
    except ValidationError:
        raise UserInputError(f"{message.digest[:80]!r} is no digest: expected 64 lower-case hex digits") from None


def _read_name(message: pb.Release) -> ReleaseName:
    return ReleaseName(
        number=message.number, model_digest=plain(message.model_digest), manifest_digest=plain(message.manifest_digest)
    )
