"""The model card: front matter that the Hub reads, and words from elsewhere that mean nothing in it."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from markdown_it import MarkdownIt

from coldfuse.core.base_facts import BaseFacts, card_terms
from coldfuse.core.blob import Blob
from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.core.model_card import CardFacts, is_card, model_card, quoted
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.serialization import decode, encode

DIGEST = "ab" * 32
EVIL = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "`</code><b>x</b>",
    "``` \n\n# a heading",
    "x\n---\nlicense: mit\n---\n",
    "![](http://tracker.example/x.png)",
    "http://tracker.example www.tracker.example @everybody",
    "a | b\n|---|---|",
    "&lt;b&gt; \\` \\",
    "\u202egnp.exe\x1b[2J\x00",
    "`" * 40,
    "' \" : # {a: b} %TAG ! &a *a",
)


def release(**different: object) -> ReleaseManifest:
    values = {
        "federation": DIGEST, "release": 3, "parent": 2, "round": 4, "method": "mean(absent=zero)",
        "model_digest": "cd" * 32, "files": {"config.json": Blob(parts=()), "model.safetensors": Blob(parts=())},
        "created_at_s": 0.0,
    }  # fmt: skip
    return ReleaseManifest.model_validate(values | different)


def fused(contributor: str, display_name: str | None = None, *, is_named: bool | None = None) -> FusedContribution:
    return FusedContribution(
        contribution=DIGEST, contributor=contributor, display_name=display_name, delta_digest=DIGEST, num_examples=5,
        weight=1.0, is_named=is_named,
    )  # fmt: skip


def front_matter(card: str) -> dict[str, object]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found
    return dict(yaml.safe_load(found[1]))


def body(card: str) -> str:
    return card.split("---\n", 2)[2]


def test_the_hub_learns_what_it_knows_fields_for() -> None:
    facts = BaseFacts(hub_id="org/minilm", revision="a" * 40, license="apache-2.0")
    card = model_card(release(), CardFacts(base=facts, architectures=["BertForMaskedLM"]))
    found = front_matter(card)
    assert found.pop("tags")[0] == "coldfuse"
    assert found == {
        "library_name": "transformers", "license": "apache-2.0", "base_model": "org/minilm",
        "base_model_relation": "finetune", "pipeline_tag": "fill-mask",
    }  # fmt: skip
    assert "model-index" not in card


def test_what_nobody_knows_is_left_out_and_not_guessed() -> None:
    assert front_matter(model_card(release(), CardFacts(called="org/minilm"))).keys() == {"library_name", "tags"}


def test_the_card_says_how_it_was_made_and_how_to_verify_it() -> None:
    score = SuiteCounts(suite="reviews", num_examples=1000, only_before=10, only_after=25)
    facts = CardFacts(
        name="ward", root="ef" * 32, is_signed=True, scores=[score], difference=0.01,
        privacy="ε = 3 at δ = 1e-5",
    )  # fmt: skip
    card = model_card(release(), facts)
    for words in (
        DIGEST, "release: 3, made from release 2 in round 4", "mean(absent=zero)", "ε = 3",
        "`reviews`: 1.5 points, on 1,000 examples", "all suites, those of evaluators too: 1 point",
        f"coldfuse verify model --root {'ef' * 32}", "model_signing verify key",
    ):  # fmt: skip
        assert words in card, words
    assert is_card(card)
    assert model_card(release(), facts) == card


def test_nobody_is_named_who_has_not_agreed() -> None:
    several = (
        fused("alice-1", "Alice", is_named=True),
        fused("bob-2", "Bob"),
        fused("carol-3", "Carol", is_named=False),
    )
    card = model_card(release(contributions=several), CardFacts())
    assert "Alice" in card
    assert "2 contributions of those who have not asked to be named" in card
    assert not re.search("bob|carol", card, re.IGNORECASE)


@pytest.mark.parametrize("evil", EVIL)
def test_words_from_elsewhere_are_words(evil: str) -> None:
    contributions = (fused("eve", evil[:80], is_named=True),)
    facts = CardFacts(
        name="ward", display_name=evil[:80], called=evil, privacy=evil,
    )  # fmt: skip
    evil_release = release(method=evil, contributions=contributions, software={"coldfuse": evil})
    card, plain = model_card(evil_release, facts), model_card(release(), CardFacts())
    assert front_matter(card) == front_matter(plain)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body(card))
    tags = set(re.findall(r"<(/?[a-z!][a-z0-9-]*)", html, re.IGNORECASE))
    assert {tag.strip("/") for tag in tags} <= {"!--", "h1", "h2", "p", "ul", "li", "code", "pre"}, html
    assert not re.search(r"<(a|img|script|table)\b", html)
    titles = [line for line in card.splitlines() if line.startswith("## ")]
    assert titles == ["## Contributors", "## Privacy", "## How to verify it"]
    assert all(letter.isprintable() or letter == "\n" for letter in card)


@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_words_are_bounded(length: int) -> None:
    assert len(quoted("x" * length)) <= 1004


def test_a_path_of_the_operators_stays_theirs() -> None:
    for called in ("/home/ada/secret", "./secret", "~/secret", "a/b/secret", "C:\\secret"):
        assert "secret" not in model_card(release(), CardFacts(called=called))


@pytest.mark.parametrize(
    ("card", "terms"),
    [
        ("---\nlicense: mit\n---\n# x", {"license": "mit"}),
        ("\ufeff---\r\nlicense: \"cc-by-4.0\"\r\nlanguage: en\r\n---\r\n", {"license": "cc-by-4.0"}),
        ("---\nlicense: other\nlicense_name: x\nlicense: <script>\n---", {"license": "other"}),
        ("---\nlicense: 'mit\n---", {}),
        ("---\nnested:\n  license: mit\n---", {}),
        ("# license: mit\n---\nlicense: mit\n---", {}),
        ("---\nlicense: mit", {}),
        ("---\nlicense: " + "a" * 100 + "\n---", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_of_a_base_s_own_card_plain_terms_are_read(card: str, terms: dict[str, str]) -> None:
    assert card_terms(card) == terms


def test_releases_of_older_versions_keep_their_bytes() -> None:
    manifest = release(contributions=(fused("alice"),))
    written = json.loads(encode(manifest))
    assert "base_facts" not in written
    assert "is_named" not in written["contributions"][0]
    assert encode(decode(ReleaseManifest, encode(manifest), what="x")) == encode(manifest)
