"""What other tools verify a fetched folder by: the key, from the federation's root, and what is missing."""

from __future__ import annotations

from pathlib import Path

from coldfuse.consumer import Fetched
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.model_files import PROVENANCE_FILE
from coldfuse.durable import write_whole
from coldfuse.errors import UserInputError
from coldfuse.gateway import Gateway
from coldfuse.trust.model_signature import read_signature
from coldfuse.trust.signed_folder import read_bundle


def require_place(path: Path | None, out: Path) -> None:
    """Raise `UserInputError` for a file in the model's folder, where it would be one that nobody has signed."""
    if path is not None and path.resolve().is_relative_to(out.resolve()):
        raise UserInputError(f"--model-key {path}: lies in the model's folder, and is not signed; write it beside")


def lacking(gateway: Gateway, fetched: Fetched) -> str | None:
    """Say which signatures a release should have and has not; None where it has all that it needs."""
    if not isinstance(gateway, TrustedGateway) or PROVENANCE_FILE in fetched.signed:
        return None
    number = fetched.manifest.release
    if not gateway.belief.settings().is_signed_release(number):
        return None
    return (
        f"release {number} is the one that the channel names, and comes without {PROVENANCE_FILE}: the store has lost "
        "it, or somebody has removed it; the aggregator signs the latest release anew when it is started"
    )


def write_model_key(gateway: Gateway, out: Path, path: Path) -> None:
    """Write the key that has signed a fetched folder, in PEM form.

    Args:
        gateway: Where the folder came from.
        out: The folder.
        path: Where the key goes.

    Raises:
        UserInputError: The federation has no root.
        SignatureError: The folder has no signature, or one of a key that its root does not name.
    """
    if not isinstance(gateway, TrustedGateway):
        raise UserInputError("--model-key: this federation has no root, so that no key of it is known")
    signed = read_signature(read_bundle(out), gateway.belief.root().keys_of("model"))
    write_whole(path, signed.key.pem.encode())
