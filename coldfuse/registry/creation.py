"""From a model folder to a federation with release 0."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from coldfuse import __version__
from coldfuse.core.base_facts import BaseFacts
from coldfuse.core.blob import Blob
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.names import Identity
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.retention import RetentionRules
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.core.soak import SoakRule
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import ConflictError, FederationError, ObjectNotFoundError, UserInputError
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects
from coldfuse.registry.settings import SETTINGS_KEY, explain_setting, write_settings
from coldfuse.registry.signing import is_signed, known_digests, whole_digests, write_signatures
from coldfuse.registry.trust import found
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.tensors.checks import make_list
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.files import File, opened
from coldfuse.tensors.folders import existing
from coldfuse.tensors.parts import PartLayout, plan_parts, plan_plain_parts
from coldfuse.trust.founding import FounderKeys

_RELEASE_ZERO_KEY = "releases/00000.json"


def create_federation(  # noqa: PLR0913 - what a federation is made of, by keyword
    store: ObjectStore,
    *,
    name: str,
    base: Path,
    origin: str,
    method: str,
    rules: Mapping[str, object],
    screening: ScreeningRules | None = None,
    statistics: StatisticsRule | None = None,
    gate: GateRules | None = None,
    soak: SoakRule | None = None,
    weighting: Weighting | None = None,
    retention: RetentionRules | None = None,
    trust: FounderKeys | None = None,
    is_auditable: bool = False,
    base_facts: BaseFacts | None = None,
) -> Federation:
    """Store a base model's files and create a federation on it.

    A creation that was killed is finished by calling this again with the same base, under the name that it had chosen.

    Args:
        store: An empty store.
        name: The federation's name, of any script.
        base: A Hugging Face model folder.
        origin: What the user called the base.
        method: Fusion method.
        rules: The fields of `RoundRules`.
        screening: Rules by which contributions are compared; the strict ones by default, `ScreeningRules.off()` for
            experiments.
        statistics: What contributions bring beside their deltas, as the method asks for it; nothing by default.
        gate: Rules by which what is fused is published; by default it is published whatever it does.
        soak: When the channel `stable` follows; by hand alone by default.
        weighting: What contributions are scored by for their weights; by nothing by default.
        retention: How much `gc` keeps where it is not told; everything by default.
        trust: The keys that it is founded on; None: it has no root, and nothing in it is signed.
        is_auditable: Whether every member may read the contributions that went into a release.
        base_facts: What the base's own card and the Hub say of it, for the releases' cards.

    Raises:
        UserInputError: The base or an option cannot be used; nothing was written.
        FederationError: The store holds a federation, or the beginning of one on another base.
    """
    require_creatable(store, name=name, rules=rules)
    called = Identity.of(name, what="the federation's name")
    folder = open_checkpoint(base)
    require_fusable(folder, base)
    begun, now_s = _read_begun(store), time.time()
    digest = folder.digest()
    if begun and begun.model_digest != digest:
        raise _other_base(store, begun)
    root = found(store, trust) if trust else None
    federation = root or (begun.federation if begun else secrets.token_hex(32))
    settings = FederationSettings(
        federation=federation, root=root, name=called.id, display_name=called.display_name,
        rules=RoundRules.model_validate(rules), method=method, created_at_s=now_s, base=origin,
        release_zero="0" * 64,  # known when the files are
        screening=screening or ScreeningRules(), statistics=statistics or StatisticsRule(),
        is_auditable=is_auditable or None, gate=gate if gate and gate.is_on else None,
        soak=soak if soak and soak.is_on else None, weighting=None if weighting == "none" else weighting,
        retention=None if retention == RetentionRules() else retention,
    )  # fmt: skip
    files, checks = _import_model(Objects(store), folder)
    manifest = ReleaseManifest(
        federation=federation, release=0, parent=None, round=0, method="base", model_digest=digest,
        files=files, checks=checks, module=folder.module, base_facts=base_facts, created_at_s=now_s,
        software={"coldfuse": __version__},
    )  # fmt: skip
    if begun and (begun.files, begun.federation) != (manifest.files, federation):
        raise _other_base(store, begun)
    manifest = begun or manifest
    settings = settings.model_copy(update={"release_zero": sha256(encode(manifest))})
    if trust:
        _sign_base(Federation(store, settings, signer=trust.signer), manifest, folder)
    return create(store, settings, manifest, trust=trust)


def create(
    store: ObjectStore,
    settings: FederationSettings,
    release_zero: ReleaseManifest,
    *,
    trust: FounderKeys | None = None,
) -> Federation:
    """Create a federation; `federation.json` comes last, as the switch.

    Args:
        store: A store without a federation.
        settings: What never changes.
        release_zero: The base, whose files lie in the store already.
        trust: The keys that it is founded on, whose root lies in the store already; None: it has none.

    Raises:
        FederationError: The store holds a federation, or another process creates one.
    """
    federation = Federation(store, settings, signer=trust.signer if trust else None)
    if store.head(SETTINGS_KEY) is not None:
        raise FederationError(f"{store.url} holds a federation already; choose another folder or prefix")
    try:
        federation.publish(release_zero)
        write_settings(store, settings, etag=None, signers=trust.operators if trust else ())
    except ConflictError as error:
        raise FederationError(
            f"{store.url}: another process creates a federation here, or one died while it did; choose another folder "
            "or prefix, or empty this one"
        ) from error
    return federation


def _sign_base(federation: Federation, manifest: ReleaseManifest, folder: Checkpoint) -> None:
    """Sign release 0, before a channel points to it."""
    if federation.signer is None or is_signed(federation, manifest, federation.signer):
        return
    digests = known_digests(federation, manifest)
    if manifest.files.keys() - digests.keys():
        digests = whole_digests(folder)
    write_signatures(federation, manifest, digests, signers=federation.signer, terms=None)


def require_creatable(store: ObjectStore, *, name: str, rules: Mapping[str, object]) -> None:
    """Refuse what `create_federation` would refuse, as far as that is known without the base.

    Raises:
        UserInputError: There can be no such name or rules.
        FederationError: The store holds a federation.
    """
    Identity.of(name, what="the federation's name")
    if store.head(SETTINGS_KEY) is not None:
        raise FederationError(f"{store.url} holds a federation already; choose another folder or prefix")
    try:
        RoundRules.model_validate(rules)
    except ValidationError as error:
        raise UserInputError(explain_setting(error)) from error


def require_fusable(folder: Checkpoint, base: Path) -> None:
    """Raise `UserInputError` if no tensor of a base can be fused in a federation."""
    if open_as_floats(folder).converted:
        raise UserInputError(
            f"{base}: its weights are in FP8, and a federation's base is of floats; write it in BF16 first: "
            f"coldfuse fuse {base} {base} --out FOLDER"
        )
    if not any(spec.is_fused for spec in folder.schema.values()):
        raise UserInputError(f"{base}: no tensor of this model can be fused (F16, BF16, F32 or F64)")


def _read_begun(store: ObjectStore) -> ReleaseManifest | None:
    """Return release 0 of a creation that ended before its last write, the settings."""
    try:
        return decode(ReleaseManifest, store.get(_RELEASE_ZERO_KEY), what=_RELEASE_ZERO_KEY)
    except ObjectNotFoundError:
        return None


def _import_model(objects: Objects, model: Checkpoint) -> tuple[dict[str, Blob], dict[str, str]]:
    """Store every file of a model part by part; return their parts, and the names of their checks.

    What is there already is not written again.
    """
    layouts: dict[str, tuple[File, list[PartLayout]]] = {
        name: (file.file, plan_parts(file.header)) for name, file in model.files.items()
    }
    for name in model.plain:
        file = existing(model.folder, name)
        layouts[name] = file, plan_plain_parts(file.size_bytes)
    files, checks = {}, {}
    for name, (file, parts) in layouts.items():
        files[name], lists = _import_file(objects, file, parts)
        if root := objects.put_checks(lists):
            checks[name] = root
    return files, checks


def _import_file(objects: Objects, file: File, layouts: list[PartLayout]) -> tuple[Blob, list[bytes]]:
    parts, lists = [], []
    with opened(file) as reader:
        for layout in layouts:
            data = bytearray(layout.size_bytes)
            reader.read_into(memoryview(data), layout.start)
            parts.append(put_part(data, objects.put))
            lists.append(make_list(data))
    return Blob(parts=tuple(parts)), lists


def _other_base(store: ObjectStore, begun: ReleaseManifest) -> FederationError:
    return FederationError(
        f"{store.url}: another process creates a federation here, or one died while it did, on another base (model "
        f"{begun.model_digest[:12]}); run `coldfuse init` with that base to finish it, or choose another folder or "
        "prefix, or empty this one"
    )
