"""Regular expressions in an adapter's settings: those that people write pass, those that never end do not."""

import re

import pytest

from coldfuse.adapters.patterns import check_patterns
from coldfuse.errors import UserInputError

USUAL = (
    "q_proj", r".*\.layers\.(0|1|2)\.self_attn\.(q|k|v|o)_proj", r"model\.layers\.\d+\.mlp\..*", r"(q|k|v)_proj$",
    r".*?attention\.(self|output)\..*?", r"(?:query|value)", r"layers\.[0-9]+\.[a-z_]*", r"a\?b\*c\+d|e\|f",
)  # fmt: skip
ENDLESS = (
    "(a+)+$", "(a|aa)*b", ".?" * 4 + "!", "(.|.)" * 4 + "!", ".*.*.*.*!", "(a{1,9}){1,9}", r"(\w|\d)" * 4 + "x",
    "((a|b)|(c|d)(e|f))g", ".{0,9}" * 4,
)  # fmt: skip


@pytest.mark.parametrize("pattern", USUAL)
def test_what_people_write_passes(pattern: str) -> None:
    check_patterns({"rank_pattern": {pattern: 8}}, what="alice")
    assert re.compile(pattern)


@pytest.mark.parametrize("pattern", ENDLESS)
def test_what_could_match_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(UserInputError, match="could match for ever; name the modules in full"):
        check_patterns({"alpha_pattern": {pattern: 8}}, what="alice")
