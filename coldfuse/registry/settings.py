"""A federation's settings in the store, with the last change, the one that made them (`history` has those before)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from pydantic import ValidationError

from coldfuse.core.federation import (
    LAYOUT_VERSION,
    ChangeableSettings,
    FederationSettings,
    SettingsChange,
    change_settings,
)
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import decode
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ConflictError, FederationError, ObjectNotFoundError, UserInputError
from coldfuse.registry.history import History
from coldfuse.registry.reading import read_again
from coldfuse.storage.base import ObjectStore

log = logging.getLogger(__name__)

SETTINGS_KEY = "federation.json"

COPY_KEY = "settings/copy.json"
"""Key of a copy of the settings."""

SETTINGS_HISTORY = History(kind=SettingsChange, document=SETTINGS_KEY, folder="settings")
"""Where the changes of the settings lie."""


class _Layout(Value):
    version: int


def read_settings(store: ObjectStore) -> tuple[FederationSettings, str]:
    """Read the settings, and the etag to change them by.

    Raises:
        FederationError: The store holds no federation, or one of a newer layout, or settings that make no sense.
    """
    try:
        settings, etag = read_again(store, SETTINGS_KEY, lambda data: _decode(store, data))
    except ObjectNotFoundError:
        raise _no_federation(store) from None
    except CodecError as error:
        copy = _read_copy(store)
        if copy is None:
            raise FederationError(f"{store.url}: {error}") from error
        log.warning("%s; its copy is taken, with the change that is the last there: %s", error, copy.change or "none")
        return copy, store.get_with_etag(SETTINGS_KEY)[1]
    return settings, etag


def keep_copy(store: ObjectStore, settings: FederationSettings) -> None:
    """Write the settings to a second place, for the day when the first is damaged; an older copy is replaced."""
    try:
        there, etag = store.get_with_etag(COPY_KEY)
        if there == seal(settings) or _number_of(_read_copy(store)) > _number_of(settings):
            return
        store.compare_and_swap(COPY_KEY, seal(settings), etag=etag)
    except ObjectNotFoundError:
        store.put_if_absent(COPY_KEY, seal(settings))
    except ConflictError:
        pass  # another process keeps the same or a newer one


def mend_settings(store: ObjectStore) -> bool:
    """Write damaged or missing settings anew from their copy; True if they were. Raises as `read_settings`."""
    try:
        data, etag = store.get_with_etag(SETTINGS_KEY)
        _decode(store, data)
    except ObjectNotFoundError:
        etag = None
    except CodecError:
        pass
    else:
        return False
    copy = _read_copy(store)
    if copy is None:
        raise _no_federation(store)
    store.compare_and_swap(SETTINGS_KEY, seal(copy), etag=etag)
    return True


def _decode(store: ObjectStore, data: bytes) -> FederationSettings:
    layout = decode(_Layout, data, what=SETTINGS_KEY)  # first: nothing else of a newer layout need be readable
    if layout.version > LAYOUT_VERSION:
        raise FederationError(
            f"{store.url} has layout version {layout.version}, this coldfuse knows {LAYOUT_VERSION}; upgrade coldfuse"
        )
    return unseal(FederationSettings, data, what=SETTINGS_KEY)


def _read_copy(store: ObjectStore) -> FederationSettings | None:
    try:
        return read_again(store, COPY_KEY, lambda data: unseal(FederationSettings, data, what=COPY_KEY))[0]
    except (ObjectNotFoundError, CodecError):
        return None


def _number_of(settings: FederationSettings | None) -> int:
    return settings.change.number if settings and settings.change else 0


def _no_federation(store: ObjectStore) -> FederationError:
    if _read_copy(store) is not None:
        return FederationError(
            f"{store.url}: {SETTINGS_KEY} is missing; `coldfuse doctor STORE --repair` writes it anew from its copy"
        )
    hint = "create one with `coldfuse init STORE --base MODEL`"
    return FederationError(f"{store.url} holds no federation (no {SETTINGS_KEY}); {hint}")


def write_change(
    store: ObjectStore,
    settings: FederationSettings,
    etag: str,
    wanted: ChangeableSettings,
    *,
    by: str,
    after_release: int,
) -> FederationSettings:
    """Change a federation's settings, from which the next round will be opened.

    Args:
        store: The federation's store.
        settings: The settings as `read_settings` has read them.
        etag: Their etag.
        wanted: What they shall be; None leaves a setting as it is.
        by: Who changes them, for the history.
        after_release: Number of the latest release, for the history.

    Returns:
        The settings now; if nothing would change, those that were given, and nothing is written.

    Raises:
        UserInputError: A value cannot be; nothing was written.
        FederationError: Somebody else has changed them meanwhile; nothing was written.
    """
    try:
        changed = change_settings(settings, wanted, by=by, after_release=after_release, now_s=time.time())
    except ValidationError as error:
        raise UserInputError(explain_setting(error)) from error
    if changed == settings:
        return settings
    if settings.change:  # its only other place is overwritten below
        SETTINGS_HISTORY.keep(store, settings.change)
    try:
        store.compare_and_swap(SETTINGS_KEY, seal(changed), etag=etag)
    except ConflictError as error:
        raise _overtaken(store, changed) from error
    keep_copy(store, changed)
    return changed


def list_changes(store: ObjectStore) -> Iterator[SettingsChange]:
    """List the changes, newest first.

    Raises:
        FederationError: One of them is missing, or is not what the history says.
    """
    return SETTINGS_HISTORY.list(store, read_settings(store)[0].change)


def explain_setting(error: ValidationError) -> str:
    """Say which setting cannot be, and what was expected."""
    first = error.errors(include_url=False)[0]
    field, value = first["loc"][-1], first["input"]
    return f"{field} {value!r}: {first['msg'].removeprefix('Value error, ')}"


def _overtaken(store: ObjectStore, mine: FederationSettings) -> FederationError:
    now = read_settings(store)[0].change
    other = f"{now.by} has changed {now}" if now else "they were written anew"
    return FederationError(
        f"{store.url}: somebody else changed the settings meanwhile: {other}; your change ({mine.change}) was not "
        "made; look at them, and make it again if it is still right"
    )
