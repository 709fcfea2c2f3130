"""What `init --share` takes, and what it refuses in one line."""

import pytest

from coldfuse.errors import UserInputError
from coldfuse.training.sharing.kinds import SHARES, parse_share


@pytest.mark.parametrize("name", SHARES)
def test_every_name_is_a_type_that_peft_has(name):
    import peft

    assert peft.PeftType(parse_share(name).kind) in peft.PEFT_TYPE_TO_CONFIG_MAPPING


@pytest.mark.parametrize("line", ["lora(rank=4)", "LoRA(r=4)", "lora( r = 4 , alpha = 8 )"])
def test_a_rank_has_two_names(line):
    assert parse_share(line).settings()["r"] == 4


@pytest.mark.parametrize(
    ("line", "patterns"),
    [("adapter.*", ("adapter.*",)), ("a.*,classifier.weight", ("a.*", "classifier.weight")), ("*_proj", ("*_proj",))],
)
def test_names_with_stars_or_dots_are_patterns(line, patterns):
    assert parse_share(line).patterns == patterns


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("loha(rank=4)", "a product of several trained tensors"),
        ("oft", "turns weights"),
        ("p_tuning", "no part of what PEFT saves"),
        ("lorra(rank=4)", "did you mean lora"),
        ("lora(rank=0)", "rank=0"),
        ("lora(rank=4, bogus=1)", "no parameter 'bogus'"),
        ("lora(rank=4", "expected something like"),
        ("", "expected something like"),
        ("prompt(tokens=-1)", "tokens=-1"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_reason(line, why):
    with pytest.raises(UserInputError) as refused:
        parse_share(line)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["ADALORA", "LOHA", "LOKR", "VERA", "OFT", "BOFT", "HRA", "ROAD", "DELORA", "HIRA"])
def test_types_whose_means_mean_nothing_say_so(kind):
    with pytest.raises(UserInputError, match="share lora"):
        parse_share(kind.lower())
