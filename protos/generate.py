"""Writes the Python code of the wire: `python protos/generate.py` (needs grpcio-tools).

The folder of the .proto files is mapped to the package's folder, so that the generated modules import each other by the
names under which they are installed.
"""

import argparse
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "coldfuse/transport/pb"


def generate(out: Path) -> None:
    """Write the modules of every .proto under `out`, in their package's folder."""
    sources = sorted((ROOT / "protos/coldfuse/v1").glob("*.proto"))
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    files = [f"{PACKAGE}/{source.name}" for source in sources]
    if protoc.main(["protoc", f"-I{PACKAGE}={sources[0].parent}", *outputs, *files]) != 0:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="folder that holds the package `coldfuse`")
    generate(parser.parse_args().out)
