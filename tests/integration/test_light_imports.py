"""What must start quickly imports no library that takes long, and what needs no extra works without: in processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_tree import commands
from commands import Process
from tiny_rounds import make_federation, make_model

from coldfuse.cli.main import COMMANDS
from coldfuse.extras import EXTRAS
from coldfuse.transport.server import serve_gateway

HEAVY = ("torch", "ray", "transformers", "sklearn", "boto3", "grpc", "numpy", "numba", "pyarrow", "huggingface_hub")
OF_EXTRAS = sorted(frozenset().union(*EXTRAS.values()) | {"peft", "sklearn"})
WITHOUT = f"""
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {OF_EXTRAS!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Nothing())
"""
RUN = "from coldfuse.cli.main import main; sys.argv = ['coldfuse', *sys.argv[1:]]; main()"


def bare(*arguments: object) -> Process:
    """Run a command where no extra is installed."""
    with Process(sys.executable, "-c", WITHOUT + RUN, *arguments) as process:
        process.wait()
    return process


def test_help_of_every_command_loads_nothing_heavy() -> None:
    runs = "\n".join(
        f"try:\n    sys.argv = ['coldfuse', *{name.split()!r}, '--help']; main()\nexcept SystemExit: pass"
        for name in commands()
    )
    code = f"import sys; from coldfuse.cli.main import main\n{runs}\n"
    code += f"sys.exit(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Example: coldfuse") == len(COMMANDS)


def test_importing_coldfuse_loads_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import coldfuse\n"
    code += "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
    code += "sys.exit(' '.join(sorted(new - sys.stdlib_module_names - {'coldfuse'})) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_opening_a_folder_does_not_import_boto3() -> None:
    program = "import sys, coldfuse.storage as s; s.open_store('x'); sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_consumers_need_no_extra(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model())
    with serve_gateway(federation) as gateway:
        for number, source in enumerate((federation.store.url, gateway.address)):
            [fetched] = bare("fetch", source, "--out", tmp_path / str(number), "--json").succeed().lines
            assert json.loads(fetched)["digest"] == federation.latest().model_digest
            assert bare("fetch", source, "--out", tmp_path / str(number), "--verify").succeed().lines
            assert bare("status", source).succeed().lines[0].startswith("federation tiny")
            assert len(bare("releases", source).succeed().lines) == 1
        assert bare("verify", federation.store.url, "--objects").succeed().lines


def test_a_gateway_needs_no_extra(tmp_path: Path) -> None:
    store = make_federation(tmp_path, make_model()).store.url
    with Process(sys.executable, "-c", WITHOUT + RUN, "gateway", store) as gateway:
        assert gateway.wait_for(lambda line: line.startswith("listening on "))


def test_a_node_is_told_before_it_fetches_anything(tmp_path: Path) -> None:
    without = WITHOUT.replace(repr(OF_EXTRAS), repr(["torch", "transformers"]))
    command = ("contribute", "127.0.0.1:1", "--data", "data.csv", "--work", tmp_path / "node")
    with Process(sys.executable, "-c", without + RUN, *command) as process:
        assert process.wait() == 1
    assert process.errors == [
        "coldfuse: coldfuse contribute needs torch and transformers, which are not installed: "
        "pip install 'coldfuse[contributor]'"
    ]


NEEDS = {
    "demo": "demo",
    "init STORE --base .": "fuse",
    "set STORE --quorum 3": "fuse",
    "retract STORE ada": "fuse",
    "aggregator STORE": "aggregator",
    "serve STORE": "aggregator",
    "contribute 127.0.0.1:1 --data x.csv": "contributor",
    "evaluator 127.0.0.1:1 --suite mood=x.csv": "contributor",
    "fuse . . --out new": "fuse",
    "methods": "fuse",
    "diff . .": "fuse",
    "push STORE hf://ada/model": "fuse",
    "evaluate . --data x.csv": "evaluate",
    "rank . --data x.csv": "evaluate",
    "similarity . .": "evaluate",
    "statistics . --data x.csv --kind fisher --out new": "contributor",
    "bench fuse": "fuse",
    "bench upload": "fuse",
    "bench fetch": "fuse",
    "bench round": "aggregator",
    "simulate": "aggregator",
    "experiment fusion tasks --data . --work new": "demo",
    "experiment main --data . --work new": "demo",
    "experiment pretrain --data . --out new": "demo",
}


def test_every_command_with_an_extra_is_tried_without_it() -> None:
    tried = {COMMANDS[words].runs for words in COMMANDS for command in NEEDS if command.startswith(words)}
    assert {command.runs for command in COMMANDS.values() if command.extra} == tried


@pytest.mark.parametrize("command", NEEDS)
def test_who_lacks_an_extra_is_told_in_one_line_what_to_install(command: str, tmp_path: Path) -> None:
    process = bare(*command.replace("STORE", str(tmp_path / "store")).split())
    assert process.wait() == 1, str(process)
    [line] = process.errors
    words = next(words for words in COMMANDS if command.startswith(words))
    assert line.startswith(f"coldfuse: coldfuse {words} needs ")
    assert line.endswith(f" not installed: pip install 'coldfuse[{NEEDS[command]}]'")
