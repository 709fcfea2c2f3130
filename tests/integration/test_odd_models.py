"""Odd models through the commands: one clear line or a result, never a traceback, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import Process
from odd_models import ODD_MODELS
from tiny_model import write_tiny_model

RUN_ALL = """
import contextlib, io, json, sys
from coldfuse.cli.main import main

for words in json.loads(open(sys.argv[1]).read()):
    sys.argv, said, told, status = ["coldfuse", *words], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(told):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    print(json.dumps([status, said.getvalue(), told.getvalue()]), flush=True)
"""
"""Runs commands one after the other in one process, and says how each ended."""

AT_ONCE = 75
"""Number of commands of one process, which has a limit of time."""

Key = tuple[str, str]
"""What is odd about a model, and the command."""


def batched(keys: dict[Key, list[object]], size: int) -> list[tuple[Key, ...]]:
    return [tuple(keys)[first : first + size] for first in range(0, len(keys), size)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[Key, tuple[int, str, str]]:
    """Run every command on every odd model, and return status, errors and output of each."""
    folder = tmp_path_factory.mktemp("odd")
    base, commands = write_tiny_model(folder / "base"), {}
    for number, (name, odd) in enumerate(ODD_MODELS.items()):
        model = folder / f"model{number}"
        shutil.copytree(base, model)
        odd.change(model)
        out = folder / f"out{number}"
        commands[name, "fuse"] = ["fuse", base, model, "--out", f"{out}-fused"]
        commands[name, "plan"] = ["fuse", base, model, "--out", f"{out}-plan", "--plan", "--json"]
        commands[name, "base"] = ["fuse", model, model, "--out", f"{out}-base"]
        commands[name, "init"] = ["init", f"{out}-store", "--base", model]
    parts = batched(commands, AT_ONCE)
    lists = [folder / f"commands{number}.json" for number in range(len(parts))]
    with ThreadPoolExecutor(2) as pool:  # `init` waits for the probes of its store most of its time
        found = pool.map(lambda part, listed: run(part, commands, listed), parts, lists)
        return {key: result for each in found for key, result in each.items()}


def run(part: tuple[Key, ...], commands: dict[Key, list[object]], listed: Path) -> dict[Key, tuple[int, str, str]]:
    listed.write_text(json.dumps([[str(word) for word in commands[key]] for key in part]))
    with Process(sys.executable, "-c", RUN_ALL, listed) as process:
        lines = process.succeed().lines
    return {key: tuple(json.loads(line)) for key, line in zip(part, lines, strict=True)}


@pytest.mark.parametrize("command", ["fuse", "plan", "base", "init"])
@pytest.mark.parametrize("name", ODD_MODELS)
def test_every_odd_model_works_or_is_refused_in_one_line(name: str, command: str, ended) -> None:
    status, errors, _ = ended[name, command]
    assert "bug" not in errors
    assert "Traceback" not in errors
    assert status in (0, 1), errors
    if status == 1:
        assert errors.startswith("coldfuse: ")
        assert errors.count("\n") == 1, errors
        assert len(errors) < 700


@pytest.mark.parametrize("name", ODD_MODELS)
def test_what_is_said_is_what_is_odd(name: str, ended) -> None:
    for command, wanted in (("fuse", ODD_MODELS[name].as_model), ("base", ODD_MODELS[name].as_base)):
        status, errors, told = ended[name, command]
        assert status == (0 if wanted is None else 1), errors
        assert (wanted or "") in errors
        assert (wanted is not None) or told.splitlines()[-1].startswith("digest ")
