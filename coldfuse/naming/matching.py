"""A model's names, or those of an adapter's modules, held against the base's.

What a prefix explains needs no other library; anything else is asked of transformers (`architecture`). A model may come
without what its own class does not have (another task's head), and with what the base does not have; what lies inside
the shared body is never left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from coldfuse.errors import SchemaMismatchError
from coldfuse.naming.architecture import Architecture, Unknown, find_architecture
from coldfuse.naming.prefixes import Prefix, candidates, without_wrappers

_INDEX = re.compile(r"\.\d+\.(?!.*\.\d+\.)")
"""The last number in a tensor's name."""

Config = Mapping[str, object]
"""The content of a model's `config.json`; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """A model's tensors, by name, and its configuration."""

    tensors: Collection[str]
    """Names of all tensors."""
    needed: Collection[str]
    """Names of those that have to be explained: floats, but for copies of others."""
    config: Config


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A model, held against the base."""

    base_names: Mapping[str, str]
    """The base's name of each of the model's tensors that the base has, by the model's name."""
    outside: frozenset[str]
    """The model's tensors that the base does not have and that are no part of its body, such as a task's head."""
    inside: frozenset[str]
    """The model's tensors that the base does not have although they lie inside its body."""
    may_lack: frozenset[str]
    """The base's tensors that the model does not have, and that its own class does not have either."""
    unknown: str = ""
    """Why transformers could not be asked, if names are left that it might have explained."""


def match_model(own: Names, base: Names, *, what: str) -> Matched:
    """Hold a model's names against the base's.

    Args:
        own: The model.
        base: The base.
        what: The model's name, for errors.

    Returns:
        Which of the model's tensors is which of the base's, and what has no counterpart.

    Raises:
        SchemaMismatchError: Two tensors of the model, or of the base, would be the same.
    """
    plain = _by_prefix(own, base, what)
    if not plain.inside & set(own.needed) and set(base.needed) <= set(plain.base_names.values()):
        return plain
    theirs = find_architecture(base.config)
    if isinstance(theirs, Unknown):
        return replace(plain, unknown=theirs.why)
    mine = find_architecture(own.config) if own.config else theirs
    asked = _by_architecture(own, base, theirs if isinstance(mine, Unknown) else mine, theirs, what)
    return asked if len(asked.base_names) >= len(plain.base_names) else plain


def _by_prefix(own: Names, base: Names, what: str) -> Matched:
    """Match what one prefix explains, the one that explains most."""
    plain = {name: name if name in base.tensors else without_wrappers(name) for name in own.tensors}
    known = set(base.tensors)

    def found(prefix: Prefix) -> dict[str, str]:
        placed = ((name, prefix.to_base(short)) for name, short in plain.items())
        return {name: to for name, to in placed if to in known and to is not None}

    matches = {prefix: found(prefix) for prefix in candidates(set(plain.values()), known)}
    most = max(len(match) for match in matches.values())
    best = [prefix for prefix, match in matches.items() if len(match) == most]
    if Prefix() not in best and len({frozenset(matches[prefix].items()) for prefix in best}) > 1:
        raise SchemaMismatchError(
            f"{what}: its tensors fit the base in several ways (prefix {' or '.join(map(str, best[:2]))}); rename them"
        )
    chosen = best[0]
    match = matches[chosen]
    _check_unique(match, what)
    rest = set(own.tensors) - match.keys()
    # Only a prefix that is taken off tells a body from a head: without one, all may be the body's.
    inside = {name for name in rest if not chosen.removed or plain[name].startswith(chosen.removed)}
    return Matched(base_names=match, outside=frozenset(rest - inside), inside=frozenset(inside), may_lack=frozenset())


def _by_architecture(own: Names, base: Names, mine: Architecture, theirs: Architecture, what: str) -> Matched:
    """Match what transformers loads into the same place."""
    places = _by_key(base.tensors, theirs, f"{what}: the base")
    match: dict[str, str] = {}
    for name in own.tensors:
        short = name if mine.key(name) is not None else without_wrappers(name)
        key = mine.key(short)
        if key in places:
            match[name] = places[key]
        elif short in base.tensors and theirs.key(short) is None:  # a buffer that transformers itself ignores
            match[name] = short
    _check_unique(match, what)
    rest = set(own.tensors) - match.keys()
    inside = {name for name in rest if _shares_module(without_wrappers(name), mine, theirs)}
    lacking = set(base.tensors) - set(match.values())
    may_lack = {name for name in lacking if not _is_in(name, theirs, mine)}
    return Matched(base_names=match, outside=frozenset(rest - inside), inside=frozenset(inside),
                   may_lack=frozenset(may_lack))  # fmt: skip


def _by_key(names: Iterable[str], architecture: Architecture, what: str) -> dict[str, str]:
    """Return the stored name of each key."""
    by_key: dict[str, str] = {}
    for name in sorted(names):
        key = architecture.key(name)
        if key is None:
            continue
        if key in by_key:
            raise SchemaMismatchError(
                f"{what} holds {by_key[key]} and {name}, which transformers loads into one place; remove one of them"
            )
        by_key[key] = name
    return by_key


def _shares_module(name: str, mine: Architecture, theirs: Architecture) -> bool:
    """Tell whether a tensor lies in a part of the body that the other class has, too, such as its stack of layers.

    What a class ignores as it loads (masks, old buffers) is no part of the model. A head is none of the body, and
    neither is a part that the other class does without, such as a pooler.
    """
    memory = mine.in_memory(name)
    return (
        memory is not None
        and mine.is_body(memory)
        and mine.without_prefix(memory).partition(".")[0] in theirs.body_roots
    )


def _is_in(name: str, theirs: Architecture, mine: Architecture) -> bool:
    """Tell whether a model of the other class would have what this base's files hold."""
    memory = theirs.in_memory(name)
    if memory is None:
        return False
    return theirs.without_prefix(memory) in mine.plain_names or _shares_module(name, theirs, mine)


def _check_unique(base_names: Mapping[str, str], what: str) -> None:
    """Refuse two tensors that would count as one."""
    by_base: dict[str, list[str]] = defaultdict(list)
    for name, to in base_names.items():
        by_base[to].append(name)
    for to, names in by_base.items():
        if len(names) > 1:
            first, second = sorted(names)[:2]
            raise SchemaMismatchError(
                f"{what}: tensors {first} and {second} are both the base's {to}; remove the one that is not meant"
            )


def find_modules(modules: Collection[str], base: Names, *, what: str) -> Callable[[str], str | None]:
    """Find how an adapter's names become the base's.

    Args:
        modules: The adapter's names of the modules that it changes.
        base: The base.
        what: The adapter's name, for errors.

    Returns:
        A function from the adapter's name of a module or tensor to the base's, or None for what lies outside the base's
        body.

    Raises:
        SchemaMismatchError: Nothing explains the names, or several prefixes do.
    """
    known = set(base.tensors) | modules_of(base.tensors)
    fits = [prefix for prefix in candidates(modules, known) if _explains(prefix, modules, known)]
    if Prefix() in fits:
        return Prefix().to_base
    if len(fits) > 1:
        found = " or ".join(sorted(map(str, fits))[:2])
        raise SchemaMismatchError(f"{what}: its modules fit the base in several ways (prefix {found}); rename them")
    if fits:
        return fits[0].to_base
    architecture = find_architecture(base.config)
    if isinstance(architecture, Unknown):
        raise _unexplained(modules, known, what, f"under any prefix ({architecture.why})")
    to_base = _through(architecture, base, what)
    strangers = [name for name in modules if to_base(name) is None and _is_of_body(name, architecture)]
    if strangers or all(to_base(name) is None for name in modules):
        raise _unexplained(strangers or modules, known, what, f"nor in its class {type(architecture.model).__name__}")
    return to_base


def modules_of(tensors: Iterable[str]) -> set[str]:
    """Return the modules that tensors lie in, at every level.

    >>> sorted(modules_of(["encoder.layer.weight", "scale"]))
    ['encoder', 'encoder.layer']
    """
    steps = [name.split(".") for name in tensors]
    return {".".join(parts[:end]) for parts in steps for end in range(1, len(parts))}


def _explains(prefix: Prefix, modules: Collection[str], known: Collection[str]) -> bool:
    placed = [to for to in map(prefix.to_base, modules) if to is not None]
    return bool(placed) and all(to in known for to in placed)


def _through(architecture: Architecture, base: Names, what: str) -> Callable[[str], str | None]:
    """Return the way from names in memory, of this or an older version, to those of the base's files."""
    places = _by_key(base.tensors, architecture, f"{what}: the base")
    modules: dict[str, str] = {}
    for key, stored in places.items():
        memory = architecture.without_prefix(architecture.in_memory(stored) or key)
        whole = stored if not architecture.is_part(stored) else _without_index(stored)
        modules.setdefault(memory.rpartition(".")[0], whole.rpartition(".")[0])

    def to_base(name: str) -> str | None:
        name = without_wrappers(name)
        key = architecture.key(name)
        if key is not None:
            return places.get(key)
        # Modules have no names of their own in files: that of their weight tells, also of an older version's module.
        weight = architecture.in_memory(f"{name}.weight")
        return modules.get(architecture.without_prefix(weight.removesuffix(".weight") if weight else name))

    return to_base


def _without_index(stored: str) -> str:
    """Return a name that ends where the numbers of parts begin: `experts.0.w1.weight` is a part in `experts`."""
    match = _INDEX.search(stored)
    return stored[: match.start() + 1] if match else stored


def _is_of_body(name: str, architecture: Architecture) -> bool:
    name = without_wrappers(name)
    memory = architecture.in_memory(name) or architecture.in_memory(f"{name}.weight")
    if memory is not None:
        return architecture.is_body(memory)
    return bool(architecture.prefix) and name.startswith(f"{architecture.prefix}.")


def _unexplained(modules: Collection[str], known: Collection[str], what: str, where: str) -> SchemaMismatchError:
    missing = next((name for name in sorted(modules) if name not in known), "")
    return SchemaMismatchError(
        f"{what}: module {missing[:200]!r} is not in the base, {where}: it is another model than the one that the "
        f"adapter was trained on, or lacks this part; the base has {_deepest(known)}"
    )


def _deepest(modules: Collection[str]) -> str:
    """Name one of the base's modules, to compare with."""
    found = min(modules, key=lambda name: (-name.count("."), name), default="")
    return f"{found[:200]!r}, for example" if found else "no modules"
