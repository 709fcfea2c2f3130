"""The rules of a federation, and how an operator's change of them is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.changeable import ChangeableSettings, SettingsChange, format_duration
from coldfuse.core.contribution import Count
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.names import DisplayName
from coldfuse.core.retention import RetentionRules
from coldfuse.core.round_rules import MAX_QUORUM, Close, Late, RoundRules
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.soak import SoakRule
from coldfuse.core.statistics import StatisticsRule
from coldfuse.core.value import Digest, Name, Value, without_unset
from coldfuse.core.webhooks import Webhooks

__all__ = [
    "CHANNEL_EXPIRES_S", "LAYOUT_VERSION", "MAX_QUORUM", "SIGNED_LAYOUT_VERSION", "Adopted", "ChangeableSettings",
    "Close", "FederationSettings", "Late", "RoundRules", "SettingsChange", "Terms", "change_settings",
    "format_duration",
]  # fmt: skip

LAYOUT_VERSION = 1
"""Version of the store's layout. Code reads it before anything else, and says so when it meets a newer one."""

SIGNED_LAYOUT_VERSION = 2
"""Version of the layout of a federation with a root: versions before it cannot read what is signed, and say so."""

CHANNEL_EXPIRES_S = 7 * 86400.0
"""Seconds after which a channel that nobody has signed anew is not believed, unless the settings say otherwise."""


class Terms(Value):
    """What a round is opened with, and keeps until it is over."""

    rules: RoundRules
    """Rules by which it closes."""
    method: str
    """Recipe by which it is fused."""
    screening: ScreeningRules = Field(default_factory=ScreeningRules.off)
    """Rules by which contributions are compared; none in rounds of versions that compared nothing."""
    statistics: StatisticsRule = Field(default_factory=StatisticsRule)
    """Statistics that contributions bring beside their deltas."""
    gate: GateRules | None = None
    """Rules by which what is fused is published; None: it is published whatever it does."""
    weighting: Weighting | None = None
    """What contributions are scored by for their weights, beside the method's own; None: by nothing."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "gate", "weighting")


class Adopted(Value):
    """Where in a federation's history signatures begin, which it did without before."""

    round: Count
    """Number of the last round whose journal is not signed."""
    release: Count
    """Number of the last release that is not signed."""


class FederationSettings(Value):
    """The content of `federation.json`."""

    version: int = LAYOUT_VERSION
    federation: Digest
    """Name that no other federation has: a contribution to one is none to another. The fingerprint of the root, or
    random where there was none when it was created."""
    name: Name
    display_name: DisplayName | None = None
    """Name for people, of which `name` is the id; None where that is the name."""
    rules: RoundRules
    """Rules by which rounds close."""
    method: str
    """Recipe by which rounds are fused, see `coldfuse fuse --help`."""
    created_at_s: float
    """Seconds since 1970, by the clock of who created it."""
    base: str
    """Folder or hub id that release 0 came from, for people."""
    release_zero: Digest
    """SHA-256 of the manifest of release 0."""
    max_contribution_bytes: Count = 1 << 42
    """Size above which a contribution is refused before it is read."""
    screening: ScreeningRules = Field(default_factory=ScreeningRules.off)
    """Rules by which contributions are compared; federations of versions that compared nothing have none until an
    operator sets them."""
    statistics: StatisticsRule = Field(default_factory=StatisticsRule)
    """Statistics that contributions bring beside their deltas, as the method asks for them."""
    change: SettingsChange | None = None
    """Change that made these settings of those before; None for those that the federation was created with."""
    root: Digest | None = None
    """Fingerprint of the root; None where nothing is signed."""
    adopted: Adopted | None = None
    """What came before there was a root; None where there was one from the beginning, or is none."""
    channel_expires_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds for which a channel is believed once it is signed; None: seven days."""

    gate: GateRules | None = None
    """Rules by which what is fused is published; None: it is published whatever it does."""
    soak: SoakRule | None = None
    """When the channel `stable` follows; None: by hand alone."""
    webhooks: Webhooks | None = None
    """Addresses that are told what happens; None: nobody is."""
    weighting: Weighting | None = None
    """What contributions are scored by for their weights, beside the method's own; None: by nothing."""
    retention: RetentionRules | None = None
    """How much `gc` keeps where it is not told; None: everything."""
    is_auditable: bool | None = None
    """True where every member may read the contributions that went into a release, to fuse it again; decided when the
    federation is created. None: they are private, to who can read the store."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), *_LATER)

    @property
    def number(self) -> int:
        """Number of the change that made them; 0 for those that the federation was created with."""
        return self.change.number if self.change else 0

    def is_signed_round(self, number: int) -> bool:
        """Tell whether the journal of a round has to be signed."""
        return self.root is not None and (self.adopted is None or number > self.adopted.round)

    def is_signed_release(self, number: int) -> bool:
        """Tell whether a release has to be signed."""
        return self.root is not None and (self.adopted is None or number > self.adopted.release)

    @property
    def terms(self) -> Terms:
        """What a round that is opened now is opened with."""
        return Terms(
            rules=self.rules, method=self.method, screening=self.screening, statistics=self.statistics,
            gate=self.gate, weighting=self.weighting,
        )  # fmt: skip

    @property
    def asks_suites(self) -> bool:
        """True where models are scored on the operator's suites, by a gate or for weights."""
        return (self.gate is not None and self.gate.is_on) or self.weighting not in (None, "none")

    @property
    def changeable(self) -> ChangeableSettings:
        """What an operator may change."""
        return ChangeableSettings(
            name=self.name,
            display_name=self.display_name,
            method=self.method,
            screening=self.screening,
            statistics=self.statistics,
            gate=self.gate,
            soak=self.soak,
            webhooks=self.webhooks,
            weighting=self.weighting,
            retention=self.retention,
            **self.rules.model_dump(),
        )

    def under(self, terms: Terms | None) -> FederationSettings:
        """Return the same settings with the terms of a round; None, of a round of an older version: with these."""
        own = {} if terms is None else {name: getattr(terms, name) for name in Terms.model_fields}
        return self.model_copy(update=own)


_LATER = ("root", "adopted", "channel_expires_s", "is_auditable", "gate", "soak", "webhooks", "weighting", "retention")
"""Fields of the settings that older versions did not have: left out where they are not set."""

_AS_UNSET = {
    "gate": GateRules.off().model_dump(), "soak": {}, "webhooks": (), "weighting": "none", "retention": {},
}  # fmt: skip
"""What is the same as not to be set: whoever asks for it changes nothing."""


def change_settings(
    settings: FederationSettings, wanted: ChangeableSettings, *, by: str, after_release: int, now_s: float
) -> FederationSettings:
    """Return the settings after a change, with its record; the very same settings if nothing would change.

    Args:
        settings: The settings as they are.
        wanted: What they shall be; None leaves a setting as it is.
        by: Who changes them.
        after_release: Number of the latest release.
        now_s: Seconds since 1970.

    Raises:
        pydantic.ValidationError: A value cannot be.
    """
    wanted = ChangeableSettings.model_validate(wanted.model_dump(exclude_none=True))  # it may be unchecked
    before = _AS_UNSET | settings.changeable.model_dump(exclude_none=True)
    new = {name: value for name, value in wanted.model_dump(exclude_none=True).items() if value != before.get(name)}
    if not new:
        return settings
    if "name" in new:  # the one for people goes with it
        new["display_name"] = wanted.display_name
    change = SettingsChange(
        number=settings.change.number + 1 if settings.change else 1, changed_at_s=now_s, by=by,
        after_release=after_release,
        old=ChangeableSettings.model_validate(settings.changeable.model_dump(include=set(new))),
        new=ChangeableSettings.model_validate(new),
    )  # fmt: skip
    rules = {name: new.pop(name) for name in RoundRules.model_fields if name in new}
    document = settings.model_dump() | new | {"change": change, "rules": settings.rules.model_dump() | rules}
    return FederationSettings.model_validate(document)
