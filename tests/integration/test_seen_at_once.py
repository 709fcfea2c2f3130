"""What several processes of one user have seen of a federation at the same time."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

from coldfuse.trust.home import FederationFolder
from coldfuse.trust.seen import Memory


def count(path: Path, number: int) -> None:
    memory = Memory(FederationFolder(path, "a" * 64))
    for _ in range(20):
        memory.change(lambda seen: seen.model_copy(update={"members": seen.members + 1}))
        memory.keep_source(f"{number}")


def test_processes_and_threads_that_note_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count, args=(tmp_path, number)) for number in range(2)]
    for process in processes:
        process.start()
    threads = [threading.Thread(target=count, args=(tmp_path, number)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for worker in (*processes, *threads):
        worker.join(60)
    seen = Memory(FederationFolder(tmp_path, "a" * 64)).seen()
    assert seen.members == 80
    assert set(seen.sources) == set("0123")
