"""Whether a contribution may be fused, as far as its manifest says."""

from __future__ import annotations

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.names import id_of, why_no_name
from coldfuse.core.round import Opened


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


def screen_manifest(manifest: ContributionManifest, opened: Opened, round_number: int) -> str | None:
    """Return why a contribution cannot be fused in a round, or None. What costs a read comes after this.

    Args:
        manifest: The contribution's.
        opened: How the round began.
        round_number: The round.
    """
    if reason := screen_round(manifest, opened, round_number):
        return reason
    if reason := screen_name(manifest):
        return reason
    if manifest.score and not 0 <= manifest.score.after <= 1:  # it may be a weight
        return f"its score after training is {manifest.score.after:g}, expected 0 to 1"
    return None
