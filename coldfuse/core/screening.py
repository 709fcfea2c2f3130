"""Whether a contribution may be fused, as far as its manifest says."""

from __future__ import annotations

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import Opened


def screen_manifest(manifest: ContributionManifest, opened: Opened, round_number: int) -> str | None:
    """Return why a contribution cannot take part in this round, or None. What costs a read comes after this."""
    if (manifest.round, manifest.base_release) != (round_number, opened.base_release):
        return (
            f"it is for round {manifest.round} on release {manifest.base_release}, this is round {round_number} on "
            f"release {opened.base_release}; fetch the latest release and train on that"
        )
    if manifest.base_digest != opened.base_digest:
        return f"its base has digest {manifest.base_digest}, this round's has {opened.base_digest}; fetch it again"
    if manifest.score and not 0 <= manifest.score.after <= 1:  # it may be a weight
        return f"its score after training is {manifest.score.after:g}, expected 0 to 1"
    return None
