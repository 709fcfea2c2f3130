"""The next version of a root: what operators may change, as pure functions, and who still has to sign."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pydantic import ValidationError

from coldfuse.errors import UserInputError
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.root import RoleKeys, RoleName, Root

SHORT = 12
"""Characters of a key's id that people see."""

_ALONE: tuple[RoleName, ...] = ("aggregator", "model")
"""Roles of which one key signs, on a machine that asks nobody."""

_FOR_MODELS = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384")
"""How keys of the role `model` sign: the format of model signatures knows no others."""


def with_key(root: Root, role: RoleName, key: PublicKey, *, now_s: float) -> Root:
    """Return the next version, in which one more key signs for a role."""
    held = root.roles[role]
    if key.id in held.keys:
        raise UserInputError(f"key {key.id[:SHORT]} signs for {role} already")
    new = RoleKeys(keys=(*held.keys, key.id), threshold=held.threshold)
    return _next(root, {role: new}, [key], now_s=now_s)


def without_key(root: Root, role: RoleName, keyid: str, *, now_s: float) -> Root:
    """Return the next version, in which a key signs for a role no longer; `keyid` may be its beginning."""
    held = root.roles[role]
    gone = find_key(root, role, keyid)
    left = tuple(each for each in held.keys if each != gone)
    if len(left) < held.threshold:
        raise UserInputError(
            f"{role}: {held.threshold} of {len(held.keys)} keys must sign, and without {gone[:SHORT]} {len(left)} "
            f"would be left; add another key before, or lower the threshold: coldfuse keys threshold STORE {role} N"
        )
    return _next(root, {role: RoleKeys(keys=left, threshold=held.threshold)}, now_s=now_s)


def with_threshold(root: Root, role: RoleName, threshold: int, *, now_s: float) -> Root:
    """Return the next version, in which so many keys of a role must sign."""
    keys = root.roles[role].keys
    if role in _ALONE:
        raise UserInputError(
            f"{role}: signs by itself, round after round, by one key at a time; root and operator have thresholds"
        )
    if not 1 <= threshold <= len(keys):
        raise UserInputError(
            f"{role}: {threshold} of {len(keys)} keys cannot sign; expected 1 to {len(keys)}, or add keys before: "
            f"coldfuse keys add STORE {role} KEY"
        )
    return _next(root, {role: RoleKeys(keys=keys, threshold=threshold)}, now_s=now_s)


def with_other_key(root: Root, old: str, key: PublicKey, *, now_s: float) -> Root:
    """Return the next version, in which a key has taken the place of another one, in every role that this has."""
    changed: dict[RoleName, RoleKeys] = {}
    for role, held in root.roles.items():
        if old not in held.keys:
            continue
        if key.id in held.keys:
            raise UserInputError(f"key {key.id[:SHORT]} signs for {role} already; give a new one")
        keys = tuple(key.id if each == old else each for each in held.keys)
        changed[role] = RoleKeys(keys=keys, threshold=held.threshold)
    return _next(root, changed, [key], now_s=now_s)


def renewed(root: Root, *, expires_at_s: float, now_s: float) -> Root:
    """Return the next version, the same but for its expiry."""
    if expires_at_s <= now_s:
        raise UserInputError("a root that has expired already helps nobody; give more days")
    return _next(root, {}, now_s=now_s).model_copy(update={"expires_at_s": expires_at_s})


def find_key(root: Root, role: RoleName, keyid: str) -> str:
    """Return the id of a role's key by its beginning."""
    found = [each for each in root.roles[role].keys if each.startswith(keyid.lower())]
    if len(found) != 1 or not keyid:
        held = ", ".join(each[:SHORT] for each in root.roles[role].keys)
        what = "is the beginning of several keys" if found and keyid else "is no key"
        raise UserInputError(f"{keyid[:80]!r}: {what} of role {role}; it has {held}")
    return found[0]


def still_to_sign(before: Root | None, after: Root, signed: Collection[str]) -> list[str]:
    """Say whose signatures a root still lacks; empty once it can be published.

    Args:
        before: The root that it follows; None for the first one.
        after: The root.
        signed: Ids of the keys that have signed it.
    """
    lacking = [] if before is None else [_lacking(before, "root", signed, f"root {before.version}'s")]
    lacking.append(_lacking(after, "root", signed, "its own"))
    return [line for line in dict.fromkeys(lacking) if line]


def lacks(root: Root, role: RoleName, signed: Collection[str]) -> str:
    """Say how many signatures of a role something lacks, and whose they may be; empty if none."""
    return _lacking(root, role, signed, f"root {root.version}'s")


def _lacking(root: Root, role: RoleName, signed: Collection[str], whose: str) -> str:
    held = root.roles[role]
    missing = held.threshold - len(set(held.keys) & set(signed))
    if missing <= 0:
        return ""
    others = ", ".join(each[:SHORT] for each in held.keys if each not in set(signed))
    return f"{missing} more of {whose} {role} keys ({others})"


def changes(before: Root, after: Root) -> Iterator[str]:
    """Say what a root changes, in a sentence each."""
    for role in after.roles:
        yield from _role_changes(role, before.roles[role], after.roles[role])
    if after.expires_at_s != before.expires_at_s:
        yield f"it expires {(after.expires_at_s - before.expires_at_s) / 86400:+.0f} days later than before"
    if after.is_open != before.is_open:
        yield f"the federation becomes {'open' if after.is_open else 'closed'}"


def _role_changes(role: RoleName, old: RoleKeys, new: RoleKeys) -> Iterator[str]:
    yield from (f"{role}: key {keyid[:SHORT]} is added" for keyid in new.keys if keyid not in old.keys)
    yield from (f"{role}: key {keyid[:SHORT]} is removed" for keyid in old.keys if keyid not in new.keys)
    if new.threshold != old.threshold:
        yield f"{role}: {new.threshold} of {len(new.keys)} must sign, before {old.threshold} of {len(old.keys)}"


def _next(
    root: Root, changed: Mapping[RoleName, RoleKeys], new_keys: Collection[PublicKey] = (), *, now_s: float
) -> Root:
    roles = root.roles | dict(changed)
    wanted = {keyid for role in roles.values() for keyid in role.keys}
    known = root.keys | {key.id: key for key in new_keys}
    unfit = next((known[each] for each in roles["model"].keys if known[each].scheme not in _FOR_MODELS), None)
    if unfit is not None:
        raise UserInputError(
            f"model: key {unfit.id[:SHORT]} signs by {unfit.scheme}; the format of model signatures takes ECDSA on "
            "P-256 or P-384"
        )
    try:
        return Root(
            version=root.version + 1, created_at_s=now_s, expires_at_s=root.expires_at_s, is_open=root.is_open,
            keys={keyid: known[keyid] for keyid in sorted(wanted)}, roles=roles,
        )  # fmt: skip
    except ValidationError as error:
        raise UserInputError(f"there can be no such root: {error.errors()[0]['msg'][:200]}") from error
