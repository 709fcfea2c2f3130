"""Conversations through chat templates: the assistant's answers alone are learnt."""

import pytest
import transformers
from tiny_texts import rows_of, write_json_lines, write_text_model

from coldfuse.errors import UserInputError
from coldfuse.training.job import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.chats import PLAIN_TEMPLATE, encode_chat
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.task import DataRequest

SETTINGS = TrainingSettings(max_length=32, threads=1, device="cpu")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{%- generation -%}{{ m.content }}<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETTING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content if loop.last else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = "{{ raise_exception('roles must alternate: ' + messages[0].content) }}"
CHAT = (
    ("system", "Be wise."), ("user", "A proverb?"), ("assistant", "Look before you leap."), ("user", "Another?"),
    ("assistant", "Practice makes perfect."),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_text_model(tmp_path_factory.mktemp("model") / "base", "gpt2")


@pytest.fixture(scope="module")
def tokenizer(base):
    return transformers.AutoTokenizer.from_pretrained(base)


def read(task, rows, folder):
    return task.read(DataRequest(data=write_json_lines(folder / "rows.jsonl", rows)))


def answers(tokenizer, example):
    """What is learnt of an example, as text, in pieces."""
    pieces, last = [], NO_LABEL
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        assert label in (token, NO_LABEL)
        if label != NO_LABEL:
            pieces = [*pieces, [token]] if last == NO_LABEL else [*pieces[:-1], [*pieces[-1], token]]
        last = label
    return [tokenizer.decode(piece) for piece in pieces]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_only_the_answers_of_a_conversation_are_learnt_with_masks_and_by_prefixes_alike(tokenizer, template):
    [example] = encode_chat(tokenizer, CHAT, template=template)
    assert answers(tokenizer, example) == [
        "Look before you leap.<|im_end|>\n", "Practice makes perfect.<|im_end|>\n",
    ]  # fmt: skip
    [other] = encode_chat(tokenizer, CHAT, template=CHATML)
    assert example == other


def test_without_a_template_a_plain_one_says_who_speaks_and_ends_each_answer(tokenizer):
    [example] = encode_chat(tokenizer, CHAT, template=PLAIN_TEMPLATE)
    assert answers(tokenizer, example) == ["Look before you leap.</s>", "Practice makes perfect.</s>"]
    assert tokenizer.decode(example["input_ids"]).startswith("### system\nBe wise.\n### user\nA proverb?\n###")


def test_a_template_that_forgets_earlier_thoughts_gives_an_example_for_each_answer(tokenizer):
    thought = (*CHAT[:2], ("assistant", "<think>leap</think>Look before you leap."), *CHAT[3:])
    examples = encode_chat(tokenizer, thought, template=FORGETTING)
    assert [answers(tokenizer, example) for example in examples] == [
        ["<think>leap</think>Look before you leap.<|im_end|>\n"], ["Practice makes perfect.<|im_end|>\n"],
    ]  # fmt: skip


def test_a_template_that_refuses_is_said_without_a_word_of_the_conversation(tmp_path):
    folder = write_text_model(tmp_path / "base", "gpt2", chat_template=STRICT)
    task = find_task("instructions")
    rows = [{"messages": [{"role": role, "content": f"SECRET {content}"} for role, content in CHAT]}]
    examples = read(task, rows, tmp_path)
    loaded = task.load(folder, examples, SETTINGS)
    with pytest.raises(UserInputError, match=r"conversation 1: .* refuses its 5 messages") as caught:
        task.encode(loaded, examples)
    assert "SECRET" not in str(caught.value)
    plain = find_task("instructions(template=plain)")
    assert len(plain.encode(loaded, examples)) > 1


def test_a_conversation_longer_than_the_model_is_learnt_whole(base, tmp_path):
    task = find_task("instructions")
    examples = read(task, rows_of(task.name), tmp_path)
    loaded = task.load(base, examples, SETTINGS)
    features, tokenizer = task.encode(loaded, examples), loaded.processor.tokenizer
    learnt = sum(label != NO_LABEL for feature in features for label in feature["labels"][1:])
    whole = [encode_chat(tokenizer, chat, template=PLAIN_TEMPLATE)[0] for chat in examples.rows]
    assert learnt == sum(label != NO_LABEL for example in whole for label in example["labels"])
    assert max(feature["length"] for feature in features) <= 32
