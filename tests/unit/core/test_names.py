"""Names of any script, and the ids that are derived from them."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from coldfuse.core.names import MAX_NAME_CHARS, DisplayName, Identity, shown, why_no_name
from coldfuse.core.value import Name
from coldfuse.errors import UserInputError

ID = TypeAdapter(Name)
SINHALA, PERSIAN = "ශ්\u200dරී ලංකා", "می\u200cخواهم"


@pytest.mark.parametrize("name", ["a", "alice", "node-1a2b3c4d", "a.b_c-9", "x" * 63])
def test_what_is_an_id_stays_what_it_is(name: str) -> None:
    assert Identity.of(name) == Identity(id=name, display_name=None)


@pytest.mark.parametrize(
    "name",
    [
        "Alice",
        "Hospital-A",
        "Klinik Köln",
        "北京协和医院",
        "x" * 64,
        SINHALA,
        PERSIAN,
        "O'Brien & Sons (R&D)",
        "🦊 lab",
    ],
)
def test_a_name_of_any_script_has_an_id(name: str) -> None:
    who = Identity.of(name)
    assert who.display_name == name
    assert ID.validate_python(who.id) == Identity.of(name).id


def test_what_is_left_of_a_name_can_be_read_in_its_id() -> None:
    assert re.fullmatch(r"klinik-koln-[0-9a-f]{10}", Identity.of("Klinik Köln").id)
    assert re.fullmatch(r"strasse-7-[0-9a-f]{10}", Identity.of("Straße 7").id)


def test_two_names_never_share_an_id() -> None:
    names = [
        "alice",
        "Alice",
        "ALICE",
        "Álice",
        "ａlice",
        "alice!",
        "alice ?",
        "Аlice",
        "北京",
        "上海",
        "X" * 80,
        "X" * 79,
    ]
    assert len({Identity.of(name).id for name in names}) == len(names)


def test_one_name_has_one_id_however_its_letters_were_typed() -> None:
    assert Identity.of("Ko\u0308ln") == Identity.of("K\u00f6ln")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \t ", "empty"),
        ("a" * (MAX_NAME_CHARS + 1), "at most 80"),
        ("a\nb", "does not print"),
        ("a\x1b[2J", "does not print"),
        ("alice\u202egnp", "does not print"),
        ("ali\u200bce", "does not print"),
        ("ali\u200dce", "does not print"),
        ("\udcff", "does not print"),
        ("../evil", "as paths have"),
        ("c:\\evil", "as paths have"),
        ("..", "no letter and no digit"),
        (" alice", "space"),
        ("a  b", "space"),
        ("a" + "\u0301" * 9, "accents"),
        ("\u0301a", "accent"),
    ],
)
def test_what_is_no_name_is_told_in_words(text: str, why: str) -> None:
    with pytest.raises(UserInputError, match=why) as caught:
        Identity.of(text)
    assert str(caught.value).isprintable()


def test_a_name_that_is_stored_is_bounded_and_stays_readable_to_older_pythons() -> None:
    taken = TypeAdapter(DisplayName)
    assert taken.validate_python("Klinik Köln") == "Klinik Köln"
    with pytest.raises(ValidationError):
        taken.validate_python("x" * 81)
    later = "\U000323b0"  # a letter of Unicode 17
    assert why_no_name(later)
    assert shown("name-0123456789", taken.validate_python(later)) == "name-0123456789"
