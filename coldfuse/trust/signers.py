"""Where a private key comes from: a file, systemd's credentials, or a device or service that never gives it away.

What stands behind a signer URI (an HSM, a KMS, Vault) is securesystemslib's; here is the search, and one line for what
goes wrong in its libraries.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pydantic import Field, ValidationError

from coldfuse.core.sealed import seal, unseal
from coldfuse.core.value import Value
from coldfuse.durable import write_whole
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.trust.home import make_private_folder, read_private_key
from coldfuse.trust.keys import Ask, PublicKey, Signer

if TYPE_CHECKING:
    from securesystemslib.signer import Signer as _Signer  # type: ignore[attr-defined]  # it lists no names
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

CREDENTIAL = "coldfuse-{}"
"""Name of systemd's credential with the key of a role."""

MAX_URI_CHARS = 2000
_FILE = "file:"
_MAX_REASON_CHARS = 200

_EXTRAS = {"hsm": "hsm", "awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault", "file2": ""}
"""Schemes of URIs, and the extra of securesystemslib that brings what each needs."""

_PEM, _INFO = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


class KeyReference(Value):
    """Where a private key is that lies in no file of this user's, and its public half."""

    uri: Annotated[str, Field(max_length=MAX_URI_CHARS)]
    """Signer URI of securesystemslib."""
    key: PublicKey
    """The public key."""


class ReferredSigner:
    """Signs by what a URI leads to; the private key stays there."""

    def __init__(self, reference: KeyReference, signer: _Signer) -> None:
        """Take where the key is, and what signs by it."""
        self.reference = reference
        self._signer = signer

    @property
    def public(self) -> PublicKey:
        """The public key."""
        return self.reference.key

    def sign(self, data: bytes) -> bytes:
        """Sign bytes; raises `UserInputError` if the device or service does not."""
        signature = _translated(self.reference.uri, lambda: self._signer.sign(data))
        return bytes.fromhex(str(signature.signature))

    def __repr__(self) -> str:
        """Show the public key's id."""
        return f"ReferredSigner({self.public.id[:12]})"


def find_signer(
    role: str, keys: Path, *, given: str | None = None, credentials: Path | None = None, ask: Ask | None = None
) -> Signer:
    """Return what signs for a role or member: what was given, else systemd's credential, else the key in a folder.

    Args:
        role: The role, or the member's name.
        keys: Folder with the files `<role>.pem` or, of a key that lies elsewhere, `<role>.json`.
        given: A file, or a signer URI.
        credentials: Folder of systemd's credentials.
        ask: Asks the user for a passphrase or PIN; None where nobody is there to be asked.

    Raises:
        UserInputError: There is none, or it cannot be used.
    """
    if given is not None:
        return open_key(given, ask=ask)
    if credentials is not None and (path := credentials / CREDENTIAL.format(role)).exists():
        return read_private_key(path, ask=ask, is_shared=True)  # systemd lets in whom it should, by rights of its own
    if (path := keys / f"{role}.pem").exists():
        return read_private_key(path, ask=ask)
    if (path := keys / f"{role}.json").exists():
        return open_reference(read_reference(path), ask=ask)
    raise UserInputError(
        f"there is no private key of {role!r} here: expected {keys / role}.pem, or systemd's credential "
        f"{CREDENTIAL.format(role)}; give it with --key FILE|URI, or do this where the key is"
    )


def has_signer(role: str, keys: Path, *, credentials: Path | None = None) -> bool:
    """Tell whether `find_signer` would find something without being given anything."""
    places = [keys / f"{role}.pem", keys / f"{role}.json"]
    if credentials is not None:
        places.append(credentials / CREDENTIAL.format(role))
    return any(place.exists() for place in places)


def refer_to(given: str, signer: Signer) -> KeyReference:
    """Return where a key is that was given and opened, for later: `find_signer` finds it by that."""
    if isinstance(signer, ReferredSigner):
        return signer.reference
    return KeyReference(uri=f"{_FILE}{Path(given).expanduser().absolute()}", key=signer.public)


def open_key(given: str, *, ask: Ask | None = None) -> Signer:
    """Return the signer of a file or a URI; raises as `find_signer`."""
    scheme, colon, _ = given.partition(":")
    if not (colon and re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme)) or os.path.exists(given):
        return read_private_key(Path(given).expanduser(), ask=ask)
    if scheme not in _EXTRAS:
        known = ", ".join(f"{name}:" for name in _EXTRAS)
        raise UserInputError(f"{scheme}: is no kind of key that is known; expected a file, or one of {known}")
    if len(given) > MAX_URI_CHARS:
        raise UserInputError(f"{scheme}: the URI has {len(given)} characters, at most {MAX_URI_CHARS} are taken")
    uri, key = _translated(given, lambda: _IMPORTS[scheme](given, ask))
    return open_reference(KeyReference(uri=uri, key=_public_key(key, given)), ask=ask)


def keep_reference(path: Path, reference: KeyReference) -> None:
    """Note where a key is, in a file beside the keys."""
    make_private_folder(path.parent)
    write_whole(path, seal(reference))


def read_public_key(given: str, *, ask: Ask | None = None) -> PublicKey:
    """Return a public key: of a file with a public key (PEM or OpenSSH's), of a private one, or of a URI."""
    path = Path(given).expanduser()
    if not path.is_file():
        return open_key(given, ask=ask).public
    try:
        data = path.read_bytes()[: 1 << 16]
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read ({error.strerror}); expected a key") from error
    if b"PRIVATE KEY" in data:
        return read_private_key(path, ask=ask).public
    return PublicKey.from_text(data, what=str(path))


def open_reference(reference: KeyReference, *, ask: Ask | None = None) -> Signer:
    """Return the signer that a note of a key leads to; raises as `find_signer`."""
    if reference.uri.startswith(_FILE):
        path = Path(reference.uri.removeprefix(_FILE))
        key = read_private_key(path, ask=ask)
        if key.public != reference.key:
            raise UserInputError(
                f"{path}: is another key than the one that was given before; expected {reference.key.id}"
            )
        return key
    from securesystemslib.signer import Signer as Given  # type: ignore[attr-defined]  # it lists no names

    uri, public = reference.uri, reference.key.verifier()
    return ReferredSigner(reference, _translated(uri, lambda: Given.from_priv_key_uri(uri, public, ask or _nobody)))


def read_reference(path: Path) -> KeyReference:
    """Read such a note."""
    try:
        return unseal(KeyReference, path.read_bytes(), what=str(path))
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read ({error.strerror})") from error


def _nobody(secret: str) -> str:
    raise UserInputError(f"it asks for a {secret}, and nobody is at a terminal to give it; run this on one")


def _translated(uri: str, call: Callable[[], Any]) -> Any:
    """Call into securesystemslib, whose signers raise whatever the libraries below them do."""
    from securesystemslib.exceptions import UnsupportedLibraryError

    scheme = uri.partition(":")[0]
    try:
        return call()
    except UnsupportedLibraryError as error:
        raise UserInputError(
            f"{scheme}: keys of this kind need libraries that are not installed: "
            f"pip install 'securesystemslib[{_EXTRAS[scheme]}]'"
        ) from error
    except ColdfuseError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:_MAX_REASON_CHARS]
        raise UserInputError(
            f"{uri[:_MAX_REASON_CHARS]}: cannot be used ({type(error).__name__}: {reason}); expected a key that signs "
            "by Ed25519, ECDSA on P-256 or P-384, or RSA-PSS with SHA-256"
        ) from error


def _public_key(key: SSlibKey, given: str) -> PublicKey:
    value = str(key.keyval["public"])
    if key.scheme == "ed25519":  # the one that securesystemslib has as bare hex
        public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(value))
        value = public.public_bytes(_PEM, _INFO).decode()
    try:
        return PublicKey.model_validate({"scheme": key.scheme, "pem": value})
    except ValidationError as error:
        raise UserInputError(
            f"{given[:_MAX_REASON_CHARS]}: signs by {key.scheme}; expected Ed25519, ECDSA on P-256 or P-384, or "
            "RSA-PSS with SHA-256"
        ) from error


def _import_file(uri: str, _: Ask | None) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # it lists no names

    path = Path(urlsplit(uri).path).expanduser().absolute()
    mode = path.stat().st_mode
    if stat.S_IMODE(mode) & 0o077:
        raise UserInputError(f"{path}: others can read this private key ({stat.filemode(mode)}); chmod 600 {path}")
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), None)
    except TypeError as error:
        raise UserInputError(f"{uri}: is locked with a passphrase; give it as a file: --key {path}") from error
    return f"file2:{path}", CryptoSigner(private).public_key


def _import_hsm(uri: str, ask: Ask | None) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import HSMSigner  # type: ignore[attr-defined]  # it lists no names

    parts = urlsplit(uri)
    label = dict(parse_qsl(parts.query)).get("label")
    return HSMSigner.import_(int(parts.path) if parts.path else None, label, ask or _nobody)


def _import_azure(uri: str, _: Ask | None) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import AzureSigner  # type: ignore[attr-defined]  # it lists no names

    parts = urlsplit(uri)  # azurekms://VAULT.vault.azure.net/keys/NAME/VERSION
    return AzureSigner.import_(parts.netloc.partition(".")[0], parts.path.split("/")[2])


def _import_aws(uri: str, _: Ask | None) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import AWSSigner  # type: ignore[attr-defined]  # it lists no names

    return AWSSigner.import_(urlsplit(uri).path)


def _import_gcp(uri: str, _: Ask | None) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import GCPSigner  # type: ignore[attr-defined]  # it lists no names

    return GCPSigner.import_(urlsplit(uri).path)


def _import_vault(uri: str, _: Ask | None) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import VaultSigner  # type: ignore[attr-defined]  # it lists no names

    return VaultSigner.import_(urlsplit(uri).path.partition("/")[0])


_IMPORTS: dict[str, Callable[[str, Ask | None], tuple[str, SSlibKey]]] = {
    "file2": _import_file,
    "hsm": _import_hsm,
    "awskms": _import_aws,
    "gcpkms": _import_gcp,
    "azurekms": _import_azure,
    "hv": _import_vault,
}
"""How each kind says its public key."""
