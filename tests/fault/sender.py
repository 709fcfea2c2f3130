"""A contributor that trains nothing: it sends what lies in a store of its own until that is acknowledged.

python sender.py ADDRESS STORE MANIFEST
"""

import sys
import time
from pathlib import Path

from coldfuse.core.contribution import ContributionManifest
from coldfuse.errors import ColdfuseError
from coldfuse.registry.objects import Objects
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient


def send(address: str, store: str, path: str) -> None:
    """Contribute as a node does: upload, commit, again until it is acknowledged; print the contribution's digest."""
    manifest = ContributionManifest.model_validate_json(Path(path).read_text())
    own = Objects(LocalStore(store))
    while True:
        try:
            with GatewayClient(address, retry_s=60) as client:
                client.upload(manifest.delta, own.open(manifest.delta).read_into)
                print(client.commit(manifest).contribution, flush=True)
                return
        except ColdfuseError as error:
            print(error, file=sys.stderr)
            time.sleep(0.5)


if __name__ == "__main__":
    send(*sys.argv[1:])
