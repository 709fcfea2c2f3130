"""From a model folder to a federation with release 0."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from coldfuse import __version__
from coldfuse.codec.manifests import encode, sha256
from coldfuse.codec.model_folder import open_model_folder
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import FederationError, UserInputError
from coldfuse.registry.federation import SETTINGS_KEY, Federation, create
from coldfuse.registry.importing import import_model
from coldfuse.registry.objects import Objects
from coldfuse.storage.base import ObjectStore


def create_federation(
    store: ObjectStore, *, name: str, base: Path, origin: str, method: str, rules: Mapping[str, float]
) -> Federation:
    """Store a base model's files and create a federation on it. Raises before anything is written if it cannot be.

    Args:
        store: An empty store.
        name: The federation's name.
        base: A Hugging Face model folder.
        origin: What the user called the base.
        method: Fusion method.
        rules: The fields of `RoundRules`.
    """
    if store.head(SETTINGS_KEY) is not None:
        raise FederationError(f"{store.url} holds a federation already; choose another folder or prefix")
    folder = open_model_folder(base)
    if not any(spec.is_fused for spec in folder.schema.values()):
        raise UserInputError(f"{base}: no tensor of this model can be fused (F16, BF16, F32 or F64)")
    federation, now_s = secrets.token_hex(32), time.time()
    try:
        settings = FederationSettings(
            federation=federation, name=name, rules=RoundRules.model_validate(rules), method=method,
            created_at_s=now_s, base=origin, release_zero="0" * 64,  # known when the files are
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserInputError(f"{first['loc'][-1]} {first['input']!r}: {first['msg']}") from error
    manifest = ReleaseManifest(
        federation=federation, release=0, parent=None, round=0, method="base", model_digest=folder.digest(),
        files=import_model(Objects(store), folder), created_at_s=now_s, software={"coldfuse": __version__},
    )  # fmt: skip
    return create(store, settings.model_copy(update={"release_zero": sha256(encode(manifest))}), manifest)
