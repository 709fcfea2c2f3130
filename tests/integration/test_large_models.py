"""Large models are a normal case: a round on 7 billion parameters in the memory of a small machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
BUDGET_BYTES = 512 * MIB
"""What the aggregator's workers may take; with the interpreter and its libraries that is less than 1 GiB."""


def test_a_round_of_adapters_on_seven_billion_parameters_takes_less_than_a_gibibyte(tmp_path: Path) -> None:
    script = Path(__file__).with_name("large_round.py")
    command = [sys.executable, str(script), str(tmp_path), str(BUDGET_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["base_bytes"] > 13_000_000_000
    assert max(found["sent_bytes"]) < 2 * MIB  # two layers of rank 16
    assert (found["events"], found["kinds"]) == (["admitted", "closed"], ["lora, low-rank"])
    # A part that nobody changes has the base's digest, and is not written; of 929 parts 4 are.
    assert (found["num_changed"], found["num_moved"], found["is_kept"]) == (4, 2 * 4096 * 4096, True)
    assert found["num_shards"] > 800
    assert found["is_right"]
    assert found["planned_bytes"] < BUDGET_BYTES
    assert found["most"] > 1000
    assert found["peak_bytes"] < 1024 * MIB
