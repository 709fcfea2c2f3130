"""The model card of a release: `README.md` beside its files, for people and for the Hub.

What it says follows from the release's manifest and the federation's settings. It is not signed: a signature over the
release's files leaves it out, and it says how to verify them. Words from elsewhere (names, methods, what somebody has
called a base) stand in code spans, where neither Markdown nor HTML means anything, and in the front matter as quoted
strings.
Source: https://huggingface.co/docs/hub/model-cards, whose `model-index` is of older days and left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coldfuse.core.base_facts import BaseFacts, is_hub_id
from coldfuse.core.gate_rules import SuiteCounts, points
from coldfuse.core.model_files import MODULES, PIPELINE
from coldfuse.core.names import shown
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.shared_module import ADAPTER_CONFIG, MODULE_FILE
from coldfuse.core.words import plural, printable

MARK = "<!-- This card was written by coldfuse; it is not signed. -->"
"""The line that a card is known by: another one is somebody's own, and is left alone."""

TAGS = ("coldfuse", "cold-fusion", "model-fusion", "federated-learning")

_MOST_NAMED = 200
"""Number of contributors that are named."""

_MOST_SUITES = 50
"""Number of suites that are listed."""

_MOST_CHARS = 1000
"""Length at which words from elsewhere are cut."""

_PIPELINES = (
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForMaskedLM", "fill-mask"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForImageClassification", "image-classification"),
    ("Model", "feature-extraction"),
)
"""Tasks of the Hub by the ends of transformers' classes; the first that fits counts."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is made from, beside the release's manifest."""

    name: str | None = None
    """Id of the federation; None where nobody says."""
    display_name: str | None = None
    root: str | None = None
    """Fingerprint of its root; None where nothing in it is signed."""
    called: str | None = None
    """What its operator has called the base."""
    base: BaseFacts = field(default_factory=BaseFacts)
    """What the base's own card says."""
    architectures: Sequence[str] = ()
    """Classes of transformers that the configuration names."""
    is_signed: bool = False
    """Whether a signature over its files lies beside them."""
    scores: Sequence[SuiteCounts] = ()
    """What the operator's own suites say of it, beside its parent."""
    difference: float | None = None
    """Change of the score over all suites, evaluators' too, as a share of their examples; None where nobody counted."""
    privacy: str | None = None
    """What was spent of contributors' privacy, in words; None where nothing of it is recorded."""


def model_card(manifest: ReleaseManifest, facts: CardFacts) -> str:
    """Return the card; the same facts give the same bytes.

    Args:
        manifest: The release's manifest.
        facts: What else is known.
    """
    lines = [*_front_matter(manifest, facts), "", MARK, "", f"# {_title(manifest, facts)}", ""]
    lines += [*_made(manifest, facts), "", *_contributors(manifest.contributions)]
    if facts.scores or facts.difference is not None:
        lines += ["", "## Scores", "", *_scores(facts)]
    lines += ["", "## Privacy", "", *_privacy(facts), "", "## How to verify it", "", *_verify(manifest, facts), ""]
    return "\n".join(lines)


def is_card(text: str) -> bool:
    """Tell whether a card was written by coldfuse."""
    return MARK in text[:10_000].splitlines()


def quoted(text: str) -> str:
    r"""Return words from elsewhere as a code span, in which nothing has a meaning.

    >>> quoted("mean"), quoted("a `b` <script>"), quoted("x\n# y")
    ('`mean`', '`` a `b` <script> ``', '`x # y`')
    """
    words = " ".join(printable(text[:_MOST_CHARS], instead=" ").split()) or "?"
    longest = max((len(run) for run in re.findall("`+", words)), default=0)
    if not longest:
        return f"`{words}`"
    fence = "`" * (longest + 1)
    return f"{fence} {words} {fence}"


def library_of(manifest: ReleaseManifest) -> str | None:
    """Return the library that loads a release, by the files that it has; None for tensors alone."""
    if PIPELINE in manifest.files:
        return "diffusers"
    if MODULES in manifest.files:
        return "sentence-transformers"
    if ADAPTER_CONFIG in manifest.files:
        return "peft"
    return "transformers" if "config.json" in manifest.files and MODULE_FILE not in manifest.files else None


def _front_matter(manifest: ReleaseManifest, facts: CardFacts) -> Iterator[str]:
    base, _ = _base_of(manifest, facts)
    values: dict[str, object] = {
        "library_name": library_of(manifest), "license": facts.base.license, "base_model": base,
        "base_model_relation": base and ("adapter" if manifest.module else "finetune"),
        "pipeline_tag": facts.base.pipeline_tag or _pipeline(manifest, facts), "tags": list(TAGS),
    }  # fmt: skip
    yield "---"
    for name, value in values.items():
        if value:
            yield f"{name}: {json.dumps(value)}"  # a string of JSON is one of YAML, and nothing in it acts
    yield "---"


def _base_of(manifest: ReleaseManifest, facts: CardFacts) -> tuple[str | None, str | None]:
    """Return the Hub's id of the base, or of the body that a module is on, and its revision; None where unknown."""
    if manifest.module is not None:
        body = manifest.module.body
        is_there = body.revision is not None and is_hub_id(body.origin)  # a revision is known of the Hub's alone
        return (body.origin, body.revision) if is_there else (None, None)
    return facts.base.hub_id, facts.base.revision


def _pipeline(manifest: ReleaseManifest, facts: CardFacts) -> str | None:
    if MODULES in manifest.files:
        return "sentence-similarity"
    if PIPELINE in manifest.files or manifest.module is not None:
        return None
    first = facts.architectures[0] if facts.architectures else ""
    return next((task for end, task in _PIPELINES if first.endswith(end)), None)


def _title(manifest: ReleaseManifest, facts: CardFacts) -> str:
    name = quoted(shown(facts.name, facts.display_name)) if facts.name else "A federation's model"
    return f"{name}, release {manifest.release}"


def _made(manifest: ReleaseManifest, facts: CardFacts) -> Iterator[str]:
    yield (
        "A shared model that many parties improve together (ColD Fusion, arXiv 2212.01378): each fine-tunes it on "
        "data of its own, which never leave it, and what fine-tuning changed is fused."
    )
    yield ""
    yield f"- federation: `{manifest.federation}`"
    yield f"- release: {manifest.release}" + (
        ", the base itself" if manifest.parent is None else f", made from release {manifest.parent} in round "
        f"{manifest.round}"
    )  # fmt: skip
    yield f"- base: {_base_words(manifest, facts)}"
    yield f"- method: {quoted(manifest.method)}"
    yield f"- contributions: {len(manifest.contributions):,}"
    if edits := sorted({each.edit for each in manifest.contributions if each.edit is not None}):
        yield f"- edits: {', '.join(map(quoted, edits[:_MOST_NAMED]))}"
    if manifest.moved is not None:
        yield f"- moved: {100 * manifest.moved:.3g} % of the model's numbers"
    yield f"- model digest: `{manifest.model_digest}`"
    if manifest.software:
        programs = (f"{quoted(name)} {quoted(version[:40])}" for name, version in sorted(manifest.software.items()))
        yield f"- made with: {', '.join(programs)}"


def _base_words(manifest: ReleaseManifest, facts: CardFacts) -> str:
    base, revision = _base_of(manifest, facts)
    if base:
        at = f" at {quoted(revision[:12])}" if revision else ""
        return f"{quoted(base)}{at}, whose own card and license count for it"
    if facts.called and not is_path(facts.called):
        return f"what its operator has called {quoted(facts.called)}; its own card and license count for it"
    return "a model that its operator has brought; its own card and license count for it"


def is_path(called: str) -> bool:
    """Tell whether a base was called by a path, which is its operator's own business.

    >>> is_path("./minilm"), is_path("sentence-transformers/all-MiniLM-L6-v2")
    (True, False)
    """
    return called.startswith((".", "/", "~")) or called.count("/") > 1 or "\\" in called


def _contributors(contributions: Sequence[FusedContribution]) -> Iterator[str]:
    yield "## Contributors"
    yield ""
    named = sorted({shown(each.contributor, each.display_name) for each in contributions if each.is_named})
    if not contributions:
        yield "Nobody has contributed to it yet."
        return
    if named:
        yield "Named are those who have agreed to it:"
        yield ""
        yield from (f"- {quoted(name)}" for name in named[:_MOST_NAMED])
        if len(named) > _MOST_NAMED:
            yield f"- and {len(named) - _MOST_NAMED:,} more"
        yield ""
    others = sum(not each.is_named for each in contributions)
    if others:
        yield f"{plural(others, 'contribution')} of those who have not asked to be named."


def _scores(facts: CardFacts) -> Iterator[str]:
    """Say what was counted on the examples of suites; members who evaluate are named nowhere."""
    yield "Before it was published, it was held against its parent, example by example:"
    yield ""
    for each in facts.scores[:_MOST_SUITES]:
        counted = f"{each.only_after:,} right only now, {each.only_before:,} only before"
        counted = f"on {plural(each.num_examples, 'example')} ({counted})"
        if each.num_right is not None:
            counted += f"; {each.num_right:,} right"
        yield f"- {quoted(each.suite)}: {points(each.difference)}, {counted}"
    if len(facts.scores) > _MOST_SUITES:
        yield f"- and {plural(len(facts.scores) - _MOST_SUITES, 'other suite')}"
    if facts.difference is not None:
        yield f"- over all suites, those of evaluators too: {points(facts.difference)}"


def _privacy(facts: CardFacts) -> Iterator[str]:
    yield "Contributors' data have not left them: what they sent is what fine-tuning changed of the shared tensors."
    yield f"Privacy spent: {quoted(facts.privacy) if facts.privacy else 'none is recorded'}."


def _verify(manifest: ReleaseManifest, facts: CardFacts) -> Iterator[str]:
    if facts.root is None:
        yield "Nobody has signed this release: its bytes can be held against its digest, and nothing more."
        yield ""
        yield from _block(
            f"coldfuse fetch FEDERATION --release {manifest.release} --out model", "coldfuse verify model"
        )
        return
    yield (
        "The federation is known by the fingerprint of its root; compare it with what its operator says elsewhere. "
        "`FEDERATION` is its address or its store."
    )
    yield ""
    yield from _block(
        f"coldfuse fetch FEDERATION --release {manifest.release} --out model --root {facts.root}",
        f"coldfuse verify model --root {facts.root}",
    )
    if facts.is_signed:
        yield ""
        yield (
            "`model.sig` signs the model's files in the form of OpenSSF model signing (not this card); "
            "`coldfuse fetch … --model-key key.pem` brings the key:"
        )
        yield ""
        yield from _block("model_signing verify key --signature model.sig --public_key key.pem .")


def _block(*commands: str) -> Iterator[str]:
    yield "```bash"
    yield from commands
    yield "```"


def architectures_of(config: Mapping[str, object]) -> list[str]:
    """Return the classes that a configuration names, where they are names."""
    found = config.get("architectures")
    names = found if isinstance(found, list) else []
    return [name for name in names[:4] if isinstance(name, str) and re.fullmatch(r"\w{1,100}", name)]
