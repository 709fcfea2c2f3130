"""From valid samples to bytes that get far: changes of the structure, and below that of the bytes."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable

_NUMBERS = (
    0, -1, 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63, 2**64, 10**18, 10**400, 0.5, -0.0, 1e308, 1.7e308, 1e-320,
    float("nan"), float("inf"), True, False,
)  # fmt: skip
_TEXTS = (
    "", "\x00", "\x1b[2J", "../../etc/passwd", "/etc/passwd", "a" * 300, "\ud800", "é" * 90, "\u202e", "0" * 64,
    "f" * 64, "null", "NaN", "1e400", "9" * 5000, "latest", "mean", "a/b", "C:\\x", "%s%n", "{0}", "${x}", "a\nb",
)  # fmt: skip
_WORDS = (
    b"\xff\xff\xff\xff",
    b"\x00" * 8,
    b"\xef\xbb\xbf",
    b"NaN",
    b"null",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"\x1f\x8b",
    b"9" * 500,
)
_MAX_BYTES = 1 << 16


def mutate(data: bytes, choose: random.Random) -> bytes:
    """Change a sample in one to four ways, as its structure lets."""
    for _ in range(choose.randint(1, 4)):
        data = choose.choice((*_structured(data), _flip, _cut, _insert, _repeat, _splice))(data, choose)
    return data[:_MAX_BYTES]


def _structured(data: bytes) -> list[Callable[[bytes, random.Random], bytes]]:
    if data[:1] in (b"{", b"["):
        return [_change_json] * 6
    if len(data) > 8 and data[8:9] == b"{":
        return [_change_header] * 6
    return []


def _change_json(data: bytes, choose: random.Random) -> bytes:
    try:
        text = json.dumps(_change(json.loads(data), choose))
    except (ValueError, RecursionError):  # it has been broken, or is nested too deep
        return _flip(data, choose)
    if choose.random() < 0.1 and text.startswith("{") and len(text) > 2:  # a name that is said twice
        text = "{" + text[1 : text.find(",") if "," in text else -1] + "," + text[1:]
    return text.encode(errors="surrogatepass")


def _change_header(data: bytes, choose: random.Random) -> bytes:
    """Change the JSON of a safetensors file, with its length put right, or almost."""
    length = min(int.from_bytes(data[:8], "little"), len(data))
    header = _change_json(data[8 : 8 + length].rstrip(b" "), choose)
    header += b" " * (-len(header) % 8)
    said = len(header) + choose.choice((0, 0, 0, 0, 1, -1, 8, 2**40))
    return struct.pack("<Q", max(said, 0)) + header + data[8 + length :]


def _change(value: object, choose: random.Random) -> object:
    """Change one thing somewhere in a document."""
    if isinstance(value, dict) and value and choose.random() < 0.85:
        name = choose.choice(sorted(value, key=str))
        match choose.randrange(6):
            case 0:
                return {key: old for key, old in value.items() if key != name}
            case 1:
                return value | {choose.choice(_TEXTS): value[name]}
            case _:
                return value | {name: _change(value[name], choose)}
    if isinstance(value, list) and value and choose.random() < 0.85:
        index = choose.randrange(len(value))
        if choose.random() < 0.2:
            return value + value[index : index + 1] * choose.choice((1, 3, 300))
        return [*value[:index], _change(value[index], choose), *value[index + 1 :]]
    return _other(value, choose)


def _other(value: object, choose: random.Random) -> object:
    match choose.randrange(7):
        case 0 | 1:
            return choose.choice(_NUMBERS)
        case 2 | 3:
            return choose.choice(_TEXTS)
        case 4:
            return choose.choice((None, [], {}, [value], {"a": value}, [None]))
        case 5 if isinstance(value, int | float) and not isinstance(value, bool):
            return value + choose.choice((1, -1, 8, -8))
        case _:
            nested: object = value
            for _ in range(choose.choice((2, 50, 900))):
                nested = [nested]
            return nested


def _flip(data: bytes, choose: random.Random) -> bytes:
    if not data:
        return b"\x00"
    at = choose.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << choose.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, choose: random.Random) -> bytes:
    start = choose.randrange(len(data) + 1)
    return data[:start] + data[choose.randrange(start, len(data) + 1) :]


def _insert(data: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(data) + 1)
    return data[:at] + choose.choice((*_WORDS, choose.randbytes(choose.randint(1, 9)))) + data[at:]


def _repeat(data: bytes, choose: random.Random) -> bytes:
    start = choose.randrange(len(data) + 1)
    return data[:start] + data[start : start + choose.randint(1, 40)] * choose.choice((2, 20)) + data[start:]


def _splice(data: bytes, choose: random.Random) -> bytes:
    """Put eight bytes that may be a length or a number somewhere."""
    at = choose.randrange(len(data) + 1)
    number = choose.choice((0, 1, len(data), 2**31, 2**32 - 1, 2**62, 2**64 - 1))
    return data[:at] + struct.pack(choose.choice("<>") + "Q", number) + data[at + 8 :]
