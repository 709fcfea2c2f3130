"""The rules of a federation: its settings, as operators have signed them, and all that they ever were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coldfuse.core.federation import FederationSettings, RoundRules, SettingsChange, Terms
from coldfuse.core.quarantine import Quarantine, QuarantineChange
from coldfuse.core.sealed import unseal
from coldfuse.core.serialization import V, decode
from coldfuse.core.value import Value
from coldfuse.errors import CodecError
from coldfuse.registry.history import History
from coldfuse.registry.quarantine import QUARANTINE_HISTORY, QUARANTINE_KEY
from coldfuse.registry.settings import COPY_KEY, SETTINGS_HISTORY, SETTINGS_KEY
from coldfuse.registry.signed import check_sealed, is_signed
from coldfuse.storage.base import list_keys
from coldfuse.trust.envelope import MAX_ENTRY_BYTES, read_envelope
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers


def read_claimed(look: Inspection, key: str = SETTINGS_KEY) -> FederationSettings | None:
    """Return what the settings say, signed or not; None, and why is noted, where they cannot be read."""
    data = look.read(key)
    if data is None:
        return None
    with look.noting(key):
        if is_signed(data, what=key):
            check_sealed(data, what=key)
            return decode(FederationSettings, read_envelope(data, what=key).content("federation", what=key), what=key)
        return unseal(FederationSettings, data, what=key)
    return None


def look_at_rules(look: Inspection, settings: FederationSettings, signers: Signers | None) -> frozenset[Terms]:
    """Look at the settings' signature, their copy and their history.

    Returns:
        The terms that rounds may have been opened with.
    """
    look.looked_at["settings"] += 1
    for key in (SETTINGS_KEY, COPY_KEY):
        data = look.read(key)
        if data is None:
            continue
        if signers is None:
            with look.noting(key):
                unseal(FederationSettings, data, what=key)
        elif is_envelope(look, data, key):
            signers.open(look, data, "federation", "operator", key=key)
    if signers is not None and settings.root != signers.fingerprint:
        known = settings.root[:16] if settings.root else "no root"
        look.add(Cause.SIGNATURE, SETTINGS_KEY, f"is of {known}, expected the root {signers.fingerprint[:16]}")
    changes = list(_changes(look, SETTINGS_HISTORY, settings.change))
    quarantine = _read_sealed(look, Quarantine, QUARANTINE_KEY)
    if quarantine is not None:
        list(_changes(look, QUARANTINE_HISTORY, quarantine.change))
    return frozenset(all_terms(settings, changes))


def is_envelope(look: Inspection, data: bytes, key: str) -> bool:
    """Tell whether something that has to be signed is; False, and why is noted, where it is not."""
    try:
        signed = is_signed(data, what=key, limit=MAX_ENTRY_BYTES)
        if signed:
            check_sealed(data, what=key, limit=MAX_ENTRY_BYTES)
    except CodecError as error:
        look.error(key, error)
        return False
    if not signed:
        look.add(Cause.SIGNATURE, key, "is not signed, and in this federation it has to be")
    return signed


def all_terms(settings: FederationSettings, changes: Iterable[SettingsChange]) -> Iterator[Terms]:
    """Return the terms that rounds may have been opened with: of the settings, and before each change, newest first."""
    terms = settings.terms
    yield terms
    for change in changes:
        terms = _before(terms, change)
        yield terms


def _before(terms: Terms, change: SettingsChange) -> Terms:
    """Return the terms before a change."""
    changed = change.new.model_dump(exclude_none=True).keys()
    old = dict.fromkeys(changed) | change.old.model_dump(include=set(changed))  # what was not set is not written
    rules = terms.rules.model_dump() | {name: old[name] for name in RoundRules.model_fields if name in old}
    own = {name: old[name] for name in Terms.model_fields if name in old}
    return Terms.model_validate(terms.model_dump() | own | {"rules": rules})


def _changes(
    look: Inspection, history: History[SettingsChange] | History[QuarantineChange], last: Value | None
) -> Iterator[SettingsChange]:
    """Return the changes before the settings, the newest first, from the one that they hold on."""
    if isinstance(last, SettingsChange):
        yield last
    before = getattr(last, "number", 0) - 1
    there = dict(_places(look, history))
    for missing in look.gaps(there, 1, before):
        look.add(Cause.GAP, f"{history.folder}, change {missing}", "is missing: the history of changes has no gaps")
    for place, key in sorted(there.items(), reverse=True):
        change = _read_sealed(look, history.kind, key)
        if change is not None and change.number != place:
            look.add(Cause.CONTRADICTION, key, f"calls itself change {change.number}")
        if isinstance(change, SettingsChange) and place <= before:
            yield change


def _places(
    look: Inspection, history: History[SettingsChange] | History[QuarantineChange]
) -> Iterator[tuple[int, str]]:
    for key in list_keys(look.store, f"{history.folder}/"):
        name = key.removeprefix(f"{history.folder}/").removesuffix(".json")
        if name.isdecimal():
            yield int(name), key


def _read_sealed(look: Inspection, kind: type[V], key: str) -> V | None:
    data = look.read(key)
    if data is None:
        return None
    return look.unseal(kind, data, key=key)
