"""Whether a contribution may be fused, as far as its manifest says."""

from __future__ import annotations

from coldfuse.core.blob import MIN_PART_BYTES
from coldfuse.core.contribution import ContributionManifest, Measured
from coldfuse.core.names import id_of, why_no_name
from coldfuse.core.round import Opened
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.statistics import StatisticsRule

_ENCODINGS = ("F32", "BF16", "F16")
"""Dtypes that the numbers of a delta may have."""

_MAX_EXAMPLES_A_STEP = 1 << 16
"""Number of examples of the largest step that anybody takes."""

_MAX_TOKENS_AN_EXAMPLE = 1 << 24
"""Number of tokens of the longest example that anybody reads."""

_MAX_SMALL_PARTS = 64
"""Number of parts that a delta may be cut into whatever its size."""


def screen_round(manifest: ContributionManifest, opened: Opened | None, round_number: int) -> str | None:
    """Return why a contribution does not belong to a round, or None.

    A gateway asks before it takes the contribution, and the aggregator again before it fuses it.

    Args:
        manifest: The contribution's.
        opened: How the round began; None while no aggregator has opened it.
        round_number: The round.
    """
    if manifest.round < round_number:
        return f"round {manifest.round} is over; fetch the latest release and train for round {round_number}"
    if manifest.round > round_number or opened is None:
        return f"round {manifest.round} is not open yet; wait for it and commit again"
    got, want = (manifest.base_release, manifest.base_digest), (opened.base_release, opened.base_digest)
    if opened.staleness_of(*got) is None:
        policy = "" if opened.rules.late == "drop" else f", and {opened.rules.lateness}"
        return (
            f"the delta is relative to release {got[0]} ({got[1][:12]}), round {round_number} is on release {want[0]} "
            f"({want[1][:12]}){policy}; fetch that release and train on it"
        )
    return None


def screen_name(manifest: ContributionManifest) -> str | None:
    """Return why a contribution's display name is not its contributor's, or None: nobody goes by another's."""
    shown = manifest.display_name
    if shown is None:
        return None
    if reason := why_no_name(shown):
        return f"the display name {shown!a} is none: {reason}"
    if id_of(shown) == manifest.contributor:
        return None
    return f"the id of {shown!r} is {id_of(shown)}, not {manifest.contributor}; send it with coldfuse"


def screen_claims(manifest: ContributionManifest, rules: ScreeningRules) -> str | None:
    """Return what a manifest claims that cannot be, or None.

    A gateway asks before it takes the contribution, and the aggregator again before it fuses it.

    Args:
        manifest: The contribution's.
        rules: The federation's rules.
    """
    if manifest.encoding not in _ENCODINGS:
        return f"its numbers are in {manifest.encoding}, and {', '.join(_ENCODINGS)} are taken; send it in one of these"
    if manifest.score is not None and (reason := manifest.score.problem()):
        return reason
    if not rules.is_on:
        return None
    num_examples, num_steps = manifest.num_examples, manifest.num_steps
    if num_examples > rules.max_examples:
        return f"it claims {num_examples:,} examples, at most {rules.max_examples:,} are taken; count each once"
    if 0 < num_steps * _MAX_EXAMPLES_A_STEP < num_examples:  # 0 steps: nobody counted
        return f"it claims {num_examples:,} examples in {num_steps:,} steps, which no training sees; count each once"
    for blob in manifest.files:
        most = _MAX_SMALL_PARTS + 3 * blob.size_bytes // MIN_PART_BYTES
        if (num_parts := len(blob.parts)) > most:
            return f"its {blob.size_bytes:,} bytes are cut into {num_parts:,} parts, at most {most:,} are taken"
    return None


def screen_statistics(manifest: ContributionManifest, rule: StatisticsRule) -> str | None:
    """Return what is wrong with the statistics that a manifest names or lacks, or None.

    A gateway asks before it takes the contribution, and the aggregator again before it fuses it.
    """
    given = manifest.statistics
    if rule.wanted is None:
        return None
    if given is None:
        if not rule.is_required:
            return None
        return (
            f"it brings no statistics, and the federation's method asks for {rule.kind} statistics beside every delta; "
            "contribute with a coldfuse that computes them, or compute them with coldfuse statistics and give the file"
        )
    if given.kind != rule.kind:
        return f"it brings {given.kind} statistics, the federation's method asks for {rule.kind} statistics"
    if given.num_examples > manifest.num_examples:
        return (
            f"its statistics are of {given.num_examples:,} examples, and it was trained on {manifest.num_examples:,}; "
            "count each once"
        )
    if given.kind != "variance" and given.count > max(given.num_examples, 1) * _MAX_TOKENS_AN_EXAMPLE:
        return f"its statistics are a mean over {given.count:,} of {given.num_examples:,} examples, which nobody reads"
    return None


def screen_change(measured: Measured, rules: ScreeningRules) -> str | None:
    """Return why a delta changes nothing, or None."""
    if not rules.is_on or measured.largest >= rules.min_change:
        return None
    what = (
        f"its largest number is {measured.largest:g}" if measured.largest else "all its numbers are 0, or it has none"
    )
    return (
        f"it changes nothing: {what}; has the training moved the model, and does the encoding hold such steps? send "
        "it in F32"
    )


def screen_manifest(manifest: ContributionManifest, opened: Opened, round_number: int) -> str | None:
    """Return why a contribution cannot be fused in a round, or None. What costs a read comes after this.

    Args:
        manifest: The contribution's.
        opened: How the round began.
        round_number: The round.
    """
    if reason := screen_round(manifest, opened, round_number):
        return reason
    return (
        screen_name(manifest)
        or screen_claims(manifest, opened.screening)
        or screen_statistics(manifest, opened.statistics)
    )
