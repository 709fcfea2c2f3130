"""A federation's settings in the store, with the last change, the one that made them (`history` has those before)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from coldfuse.core.federation import (
    LAYOUT_VERSION,
    SIGNED_LAYOUT_VERSION,
    ChangeableSettings,
    FederationSettings,
    SettingsChange,
    change_settings,
)
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import decode, encode
from coldfuse.core.value import Value
from coldfuse.errors import (
    CodecError,
    ConflictError,
    FederationError,
    ObjectNotFoundError,
    SignatureError,
    UserInputError,
)
from coldfuse.registry.history import History
from coldfuse.registry.reading import read_again
from coldfuse.registry.signed import check_sealed, seal_signed
from coldfuse.registry.trust import view_of
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.envelope import read_envelope, sign
from coldfuse.trust.keys import Signer
from coldfuse.trust.view import TrustView

log = logging.getLogger(__name__)

SETTINGS_KEY = "federation.json"

COPY_KEY = "settings/copy.json"
"""Key of a copy of the settings."""

SETTINGS_HISTORY = History(kind=SettingsChange, document=SETTINGS_KEY, folder="settings")
"""Where the changes of the settings lie."""


class _Layout(Value):
    version: int


def read_settings(
    store: ObjectStore, *, view: TrustView | None = None, fingerprint: str | None = None
) -> tuple[FederationSettings, str]:
    """Read the settings, and the etag to change them by. Where there is a root, operators have signed them.

    Args:
        store: The federation's store.
        view: The view on its root, where there is one already; None: the root is read, too.
        fingerprint: What the federation is known by; None to believe what the settings say.

    Raises:
        FederationError: The store holds no federation, or one of a newer layout, or settings that make no sense.
        TrustError: They are not signed as they have to be, or are another federation's.
    """

    def read(data: bytes) -> FederationSettings:
        return decode_settings(store, data, view=view, fingerprint=fingerprint)

    try:
        settings, etag = read_again(store, SETTINGS_KEY, read)
    except ObjectNotFoundError:
        raise _no_federation(store) from None
    except CodecError as error:
        try:
            copy = read_again(store, COPY_KEY, read)[0]
        except (ObjectNotFoundError, CodecError):
            raise FederationError(f"{store.url}: {error}") from error
        log.warning("%s; its copy is taken, with the change that is the last there: %s", error, copy.change or "none")
        return copy, store.get_with_etag(SETTINGS_KEY)[1]
    return settings, etag


def keep_copy(store: ObjectStore, settings: FederationSettings) -> None:
    """Write the settings to a second place, for the day when the first are damaged; an older copy is replaced."""
    data = _as_written(store, settings)
    try:
        there, etag = store.get_with_etag(COPY_KEY)
        if there == data or _number_of(_read_copy(store)) > _number_of(settings):
            return
        store.compare_and_swap(COPY_KEY, data, etag=etag)
    except ObjectNotFoundError:
        store.put_if_absent(COPY_KEY, data)
    except ConflictError:
        pass  # another process keeps the same or a newer one


def mend_settings(store: ObjectStore) -> bool:
    """Write damaged or missing settings anew from their copy; True if they were. Raises as `read_settings`."""
    try:
        data, etag = store.get_with_etag(SETTINGS_KEY)
        parse_settings(data, where=store.url)
    except ObjectNotFoundError:
        etag = None
    except CodecError:
        pass
    else:
        return False
    copy = _read_copy(store)
    if copy is None:
        raise _no_federation(store)
    store.compare_and_swap(SETTINGS_KEY, store.get(COPY_KEY) if copy.root else seal(copy), etag=etag)
    return True


def write_settings(
    store: ObjectStore, settings: FederationSettings, *, etag: str | None, signers: Sequence[Signer] = ()
) -> None:
    """Swap the settings for these, and keep a copy.

    Args:
        store: The federation's store.
        settings: What they shall be.
        etag: Etag of what is there; None: nothing is.
        signers: Operators, as many as must sign, where there is a root.

    Raises:
        SignatureError: They are not enough operators of this federation; nothing was written.
        ConflictError: Somebody else has changed them meanwhile; nothing was written.
    """
    if settings.root is not None:
        put_settings(store, sign(encode(settings), "federation", signers), etag=etag, fingerprint=settings.root)
        return
    store.compare_and_swap(SETTINGS_KEY, seal(settings), etag=etag)
    keep_copy(store, settings)


def put_settings(store: ObjectStore, envelope: bytes, *, etag: str | None, fingerprint: str) -> None:
    """Swap the settings for signed ones, whoever has signed them, and keep a copy; raises as `write_settings`."""
    data = seal_signed(envelope, what=SETTINGS_KEY, version=SIGNED_LAYOUT_VERSION)
    settings = decode_settings(
        store, data, view=None, fingerprint=fingerprint
    )  # nobody could read what others must sign, too
    store.compare_and_swap(SETTINGS_KEY, data, etag=etag)
    keep_copy(store, settings)


def decode_settings(
    store: ObjectStore, data: bytes, *, view: TrustView | None, fingerprint: str | None = None
) -> FederationSettings:
    """Return the settings, verified."""
    settings = parse_settings(data, where=store.url)
    known = fingerprint or (view.known().fingerprint if view else None)
    if known is not None and settings.root != known:
        raise SignatureError(
            f"{store.url} {SETTINGS_KEY}: is of a federation {_known_as(settings.root)}, expected the root "
            f"{known[:16]}; this is another federation, or somebody has replaced its settings"
        )
    view = view or view_of(store, settings)
    if view is None:
        return settings
    try:
        view.known().root.verified(data, "federation", "operator", what=SETTINGS_KEY)
    except SignatureError:  # operators may have changed since
        view.refresh().root.verified(data, "federation", "operator", what=SETTINGS_KEY)
    return settings


def _known_as(root: str | None) -> str:
    return f"with the root {root[:16]}" if root else "without a root"


def parse_settings(data: bytes, *, where: str) -> FederationSettings:
    """Return settings as they are written, whoever has signed them; raises as `decode_settings`."""
    layout = decode(_Layout, data, what=SETTINGS_KEY)  # first: nothing else of a newer layout need be readable
    if layout.version > SIGNED_LAYOUT_VERSION:
        raise FederationError(
            f"{where} has layout version {layout.version}, this coldfuse knows {SIGNED_LAYOUT_VERSION}; "
            "upgrade coldfuse"
        )
    if layout.version <= LAYOUT_VERSION:
        settings = unseal(FederationSettings, data, what=SETTINGS_KEY)
        if settings.root is not None:
            raise SignatureError(f"{where} {SETTINGS_KEY}: has a root, and nobody has signed it; it was forged")
        return settings
    check_sealed(data, what=SETTINGS_KEY)
    payload = read_envelope(data, what=SETTINGS_KEY).content("federation", what=SETTINGS_KEY)
    settings = decode(FederationSettings, payload, what=SETTINGS_KEY)
    if settings.root is None:
        raise SignatureError(f"{where} {SETTINGS_KEY}: is signed, and names no root that says whose that is")
    return settings


def _as_written(store: ObjectStore, settings: FederationSettings) -> bytes:
    """Return the settings as they lie in the store: what others have signed nobody can write again."""
    return seal(settings) if settings.root is None else store.get(SETTINGS_KEY)


def _read_copy(store: ObjectStore) -> FederationSettings | None:
    try:
        return read_again(store, COPY_KEY, lambda data: parse_settings(data, where=store.url))[0]
    except (ObjectNotFoundError, CodecError):
        return None


def _number_of(settings: FederationSettings | None) -> int:
    return settings.number if settings else 0


def _no_federation(store: ObjectStore) -> FederationError:
    if _read_copy(store) is not None:
        return FederationError(
            f"{store.url}: {SETTINGS_KEY} is missing; `coldfuse doctor STORE --repair` writes it anew from its copy"
        )
    hint = "create one with `coldfuse init STORE --base MODEL`"
    return FederationError(f"{store.url} holds no federation (no {SETTINGS_KEY}); {hint}")


def write_change(  # noqa: PLR0913 - what there is to say of a change, by keyword
    store: ObjectStore,
    settings: FederationSettings,
    etag: str,
    wanted: ChangeableSettings,
    *,
    by: str,
    after_release: int,
    signers: Sequence[Signer] = (),
) -> FederationSettings:
    """Change a federation's settings, from which the next round will be opened.

    Args:
        store: The federation's store.
        settings: The settings as `read_settings` has read them.
        etag: Their etag.
        wanted: What they shall be; None leaves a setting as it is.
        by: Who changes them, for the history.
        after_release: Number of the latest release, for the history.
        signers: Operators, as many as must sign, where there is a root.

    Returns:
        The settings now; if nothing would change, those that were given, and nothing is written.

    Raises:
        UserInputError: A value cannot be; nothing was written.
        FederationError: Somebody else has changed them meanwhile; nothing was written.
        SignatureError: They need other signers; nothing was written.
    """
    changed = plan_change(settings, wanted, by=by, after_release=after_release)
    if changed == settings:
        return settings
    keep_last_change(store, settings)
    try:
        write_settings(store, changed, etag=etag, signers=signers)
    except ConflictError as error:
        raise _overtaken(store, changed) from error
    return changed


def plan_change(
    settings: FederationSettings, wanted: ChangeableSettings, *, by: str, after_release: int
) -> FederationSettings:
    """Return what `write_change` would write."""
    try:
        return change_settings(settings, wanted, by=by, after_release=after_release, now_s=time.time())
    except ValidationError as error:
        raise UserInputError(explain_setting(error)) from error


def keep_last_change(store: ObjectStore, settings: FederationSettings) -> None:
    """Keep the record of the change that made these settings, whose only other place is about to be overwritten."""
    if settings.change:
        SETTINGS_HISTORY.keep(store, settings.change)


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
