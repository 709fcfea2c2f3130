import pytest

from coldfuse.training.tasks.chats import parse_chat

ASKED, ANSWERED = ("user", "Why?"), ("assistant", "Because.")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
        {"messages": '[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]'},
        {"messages": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"messages": [{"role": "User", "content": [{"type": "text", "text": "Why?"}]},
                      {"role": "model", "content": "Because."}]},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": [{"role": "user", "content": "Why?"}],
         "completion": [{"role": "assistant", "content": "Because."}]},
    ],
)  # fmt: skip
def test_conversations_are_read_in_every_form_that_files_have(row):
    assert list(parse_chat(row)) == [(ASKED, ANSWERED)]


def test_an_instruction_comes_with_its_input_and_a_system_prompt_first():
    row = {"prompt": "Translate.", "input": "Ja.", "completion": "Yes.", "system": "Be brief."}
    assert list(parse_chat(row)) == [(("system", "Be brief."), ("user", "Translate.\n\nJa."), ("assistant", "Yes."))]
    assert list(parse_chat({**row, "input": " ", "system": None})) == [(("user", "Translate."), ("assistant", "Yes."))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "expected `messages`, or a prompt"),
        ({"prompt": "SECRET"}, "expected `messages`, or a prompt"),
        ({"messages": "SECRET"}, "messages are str"),
        ({"messages": [{"role": "user", "content": "SECRET"}]}, "none of 1 message is the assistant's"),
        ({"messages": [{"role": "SECRET", "content": "x"}]}, "message 1 has a role that is not known; known are"),
        ({"messages": [{"role": "user", "content": None}]}, "message 1 has NoneType as content"),
        ({"messages": ["SECRET"]}, "message 1 is str"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "SECRET"}]}]}, "pictures or sounds"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": ["SECRET"]}]}, "message 1 calls tools"),
        ({"prompt": 7, "completion": "SECRET"}, "a prompt is int"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_without_showing_it(row, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        list(parse_chat(row))
    assert "SECRET" not in str(caught.value)
