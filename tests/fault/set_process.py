"""`coldfuse set`, which kills itself before or after its n-th write to the store.

python set_process.py LOG MOMENT NUMBER STORE OPTION...
"""

import sys

from aggregator_process import Striker

from coldfuse.cli.main import app

if __name__ == "__main__":
    log, moment, number, *arguments = sys.argv[1:]
    striker = Striker(log, "SIGKILL", moment, number)
    for name in ("put_if_absent", "compare_and_swap"):
        striker.wrap(name)
    app(["set", *arguments])
