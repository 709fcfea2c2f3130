"""Two processes of one training, of which the first one fails at what it does for both."""

from __future__ import annotations

import sys

import torch.distributed as dist

from coldfuse.attached.ranks import Told, on_first
from coldfuse.errors import RoundClosedError


def fail() -> Told:
    """Find that the round is over."""
    raise RoundClosedError("release 1 is out")


if __name__ == "__main__":
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
    try:
        on_first(fail)
    except RoundClosedError as error:
        print("said", error, flush=True)
    dist.destroy_process_group()
