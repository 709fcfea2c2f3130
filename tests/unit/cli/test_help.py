from __future__ import annotations

from command_tree import commands


def test_every_command_shows_an_example() -> None:
    for name, command in commands().items():
        lines = [line.strip() for line in (command.help or "").splitlines()]
        assert any(line.startswith(f"Example: coldfuse {name}") for line in lines), name


def test_every_option_says_what_it_does() -> None:
    for name, command in commands().items():
        silent = [option.name for option in command.params if not getattr(option, "help", None)]
        assert not silent, name
