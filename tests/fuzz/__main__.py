"""Fuzz readers for minutes, guided by coverage: `python -m fuzz --seconds 60 [READER …]`, in the folder `tests`.

Each reader has a process of its own, forked from one that has everything imported and instrumented, in which atheris
(libFuzzer) changes inputs by `mutations` and keeps those that reach new code. Inputs that broke a reader stay in
`--out`, with a log; give one back with `--input FILE`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import atheris

_MAX_RSS_MB = 2048


def main() -> int:
    """Fuzz what is asked for, one reader after the other, and say what came of it as a table."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", help="readers; by default all, see --list")
    parser.add_argument("--seconds", type=int, default=60, help="of each reader")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="for inputs that broke a reader")
    parser.add_argument("--input", type=Path, help="read this file instead, by the one reader that is named")
    parser.add_argument("--list", action="store_true", help="name the readers and end")
    options = parser.parse_args()
    if options.input is not None:
        return read_one(options.readers[0], options.input)
    if options.list:
        sys.stdout.write("\n".join(all_names()) + "\n")
        return 0
    options.out.mkdir(exist_ok=True)
    with atheris.instrument_imports(include=["coldfuse"]):
        from fuzz import networked, readers, stored  # noqa: F401
    names = options.readers or all_names()
    sys.stdout.write("| reader | executions | coverage | found |\n|---|---|---|---|\n")
    sys.stdout.flush()
    return max(report(name, options.seconds, options.out) for name in names)


def all_names() -> list[str]:
    """Return the readers' names; a process of its own starts what they need."""
    code = """
import tempfile
from contextlib import ExitStack
from pathlib import Path
from fuzz.readers import all_readers
with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
    print(*all_readers(Path(folder), stack), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def read_one(name: str, path: Path) -> int:
    """Give one input to a reader, so that what it breaks is seen with its traceback."""
    from fuzz.readers import all_readers
    from fuzz.running import run

    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"{run(all_readers(Path(folder), stack)[name], path.read_bytes())}\n")
    return 0


def report(name: str, seconds: int, out: Path) -> int:
    """Fuzz a reader in a process of its own, and write its line of the table."""
    log = out / f"{slug(name)}.log"
    child = os.fork()
    if child == 0:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)  # where atheris says what a reader has raised
            os.dup2(file.fileno(), 2)
        fuzz_one(name, seconds, out)
        os._exit(0)
    broken = os.waitpid(child, 0)[1] != 0
    said = log.read_text(errors="replace")
    counts = [re.findall(pattern, said, re.MULTILINE) for pattern in (r"(?:_units: |^#)(\d+)", r"cov: (\d+)")]
    errors = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|ERROR)\b.*$", said, re.MULTILINE)
    found = (errors or ["ended without a word"])[0][:200] if broken else "-"
    cells = (name, *(numbers[-1] if numbers else "?" for numbers in counts), found)
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()
    if not broken:
        log.unlink()
    return int(broken)


def slug(name: str) -> str:
    """Return a name that a file can have."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def fuzz_one(name: str, seconds: int, out: Path) -> None:
    """Let libFuzzer run a reader in this process, which it ends."""
    from fuzz.mutations import mutate
    from fuzz.readers import all_readers
    from fuzz.running import run

    folder = Path(tempfile.mkdtemp(prefix="coldfuse-fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    reader = all_readers(folder, ExitStack())[name]
    for number, seed in enumerate(reader.seeds):
        (corpus / str(number)).write_bytes(seed)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 4 == 0:
            return atheris.Mutate(data, max_size)
        return mutate(data, random.Random(seed))[:max_size]

    arguments = [
        f"-max_total_time={seconds}", "-max_len=65536", f"-rss_limit_mb={_MAX_RSS_MB}", "-print_final_stats=1",
        f"-artifact_prefix={out}/{slug(name)}-", "-timeout=30", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *arguments], lambda data: run(reader, data), custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
