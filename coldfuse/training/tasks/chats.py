"""Conversations: how they lie in files, and which of their tokens an assistant has written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coldfuse.core.words import plural
from coldfuse.training.tasks.rows import NO_LABEL, as_list, nested

ASSISTANT = "assistant"
"""Role whose messages are learnt."""

_ROLES = {
    "assistant": ASSISTANT, "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT,
    "user": "user", "human": "user", "prompter": "user", "system": "system", "developer": "developer", "tool": "tool",
}  # fmt: skip
"""Roles as files call them, those of ShareGPT too, and as chat templates do."""

Message = tuple[str, str]
"""Role and content."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '\\n' if not loop.first else '' }}{{ '### ' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + (eos_token or '') }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n### assistant\\n' }}{% endif %}"
)
"""Chat template for a base whose tokenizer has none: a headline of each role, and an end of sequence behind answers."""


class ChatTemplateError(ValueError):
    """A chat template whose answers cannot be told from what was asked; the message shows nothing of a conversation."""


def parse_chat(row: Mapping[str, object]) -> Iterator[tuple[Message, ...]]:
    """Yield a row's conversation: `messages`, or `prompt` (or `instruction` with `input`) and `completion`.

    Raises `ValueError` with what is wrong, never with what the row holds.
    """
    if row.get("messages") is not None:
        messages = _messages(row["messages"])
    elif row.get("prompt") is not None and row.get("completion") is not None:
        messages = [*_turn(row["prompt"], "user", row.get("input")), *_turn(row["completion"], ASSISTANT, None)]
    else:
        raise ValueError("expected `messages`, or a prompt and a completion; name columns with --column messages=NAME")
    system = row.get("system")
    if isinstance(system, str) and not any(role == "system" for role, _ in messages):
        messages = [("system", system), *messages]
    if messages and not any(role == ASSISTANT for role, _ in messages):
        raise ValueError(
            f"none of {plural(len(messages), 'message')} is the assistant's, so that there is no answer to learn"
        )
    if messages:
        yield tuple(messages)


def _turn(cell: object, role: str, more: object) -> list[Message]:
    """Return a prompt or a completion as messages: it is text, or messages itself."""
    found = as_list(cell)
    if found is not None and all(isinstance(each, Mapping) for each in found):
        return _messages(found)
    if not isinstance(cell, str):
        raise ValueError(f"a {'prompt' if role == 'user' else 'completion'} is {type(cell).__name__}, expected text")
    return [(role, f"{cell}\n\n{more}" if isinstance(more, str) and more.strip() else cell)]


def _messages(cell: object) -> list[Message]:
    found = as_list(cell)
    if found is None:
        raise ValueError(f"messages are {type(cell).__name__}, expected a list of `role` and `content`")
    return [_message(nested(each), number) for number, each in enumerate(found, start=1)]


def _message(message: object, number: int) -> Message:
    if not isinstance(message, Mapping):
        raise ValueError(f"message {number} is {type(message).__name__}, expected `role` and `content`")
    role = message.get("role", message.get("from"))
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise ValueError(f"message {number} has a role that is not known; known are {', '.join(_ROLES)}")
    if message.get("tool_calls"):
        raise ValueError(f"message {number} calls tools, which cannot be learnt yet; leave such conversations out")
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        content = _joined(content, number)
    if not isinstance(content, str):
        raise ValueError(f"message {number} has {type(content).__name__} as content, expected text")
    return known, content


def _joined(parts: Sequence[object], number: int) -> str:
    """Return the content of a message whose parts are all text."""
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"message {number} has parts that are no text (pictures or sounds), which no text model takes")
    return "".join(map(str, texts))


def encode_chat(tokenizer: Any, messages: Sequence[Message], *, template: str | None) -> list[dict[str, list[int]]]:
    """Return a conversation as tokens, with labels on what the assistant has written, and -100 elsewhere.

    Where the template says itself what is generated, transformers' masks do it. Else an answer is what the template
    adds to the conversation before it. Where the template renders a message otherwise once others follow (Qwen3 leaves
    out earlier thoughts), each answer is an example of its own, as it stands when it is given.

    Args:
        tokenizer: Tokenizer of the base.
        messages: The conversation.
        template: Chat template; None for the tokenizer's own.

    Raises:
        ChatTemplateError: The template does not add an answer behind its prompt.
    """
    chat = [{"role": role, "content": content} for role, content in messages]
    if "generation" in _blocks(template or tokenizer.chat_template or ""):
        encoded = tokenizer.apply_chat_template(
            chat, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return [_labelled(encoded["input_ids"], encoded["assistant_masks"])]
    whole, ends = _render(tokenizer, chat, template), []
    for number in (n for n, message in enumerate(chat) if message["role"] == ASSISTANT):
        prompt = _render(tokenizer, chat[:number], template, add_generation_prompt=True)
        answered = whole if number + 1 == len(chat) else _render(tokenizer, chat[: number + 1], template)
        ends.append((prompt, answered))
    if all(whole.startswith(prompt) and whole.startswith(answered) for prompt, answered in ends):
        return [_by_places(tokenizer, whole, [(len(prompt), len(answered)) for prompt, answered in ends])]
    if not all(answered.startswith(prompt) for prompt, answered in ends):
        raise ChatTemplateError(
            "the base's chat template does not add an answer behind its prompt, so that answers cannot be told; take "
            "the plain template: --task 'instructions(template=plain)'"
        )
    return [_by_places(tokenizer, answered, [(len(prompt), len(answered))]) for prompt, answered in ends]


def _blocks(template: str) -> set[str]:
    """Return the names of the blocks that a template opens.

    >>> sorted(_blocks("{%- generation %}{{ x }}{% endgeneration -%}"))
    ['endgeneration', 'generation']
    """
    opened = (part.partition("%}")[0].strip("-+ \n\t") for part in template.split("{%")[1:])
    return {word.split()[0] for word in opened if word}


def _render(tokenizer: Any, chat: Sequence[Mapping[str, str]], template: str | None, **options: bool) -> str:
    if not chat:  # an assistant that speaks first: templates refuse an empty conversation
        return ""
    return str(tokenizer.apply_chat_template(list(chat), chat_template=template, tokenize=False, **options))


def _by_places(tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """Tokenise a rendered conversation; a token is learnt that overlaps with a span of its characters."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    mask = [any(start < end and first < behind for first, behind in [(max(start, s), min(end, e)) for s, e in spans])
            for start, end in encoded["offset_mapping"]]  # fmt: skip
    return _labelled(encoded["input_ids"], mask)


def _labelled(ids: Sequence[int], mask: Sequence[int | bool]) -> dict[str, list[int]]:
    return {"input_ids": list(ids), "labels": [token if on else NO_LABEL for token, on in zip(ids, mask, strict=True)]}
