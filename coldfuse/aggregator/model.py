"""A release as a base to fuse on: its files' headers, read from the store once a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.schema import Schema
from coldfuse.registry.federation import Federation
from coldfuse.tensors.header import Header, read_header


@dataclass(frozen=True)
class Base:
    """θ_t: a release and where its tensors lie."""

    release: ReleaseManifest
    headers: Mapping[str, Header]
    """Of each safetensors file."""

    @property
    def schema(self) -> Schema:
        """All tensors, of all shards."""
        return {name: spec for header in self.headers.values() for name, spec in header.schema.items()}


def open_base(federation: Federation, release: ReleaseManifest) -> Base:
    """Read the headers of a release's safetensors files."""
    headers = {
        path: read_header(federation.objects.open(blob).read_into, file_bytes=blob.size_bytes, what=path)
        for path, blob in release.files.items()
        if path.endswith(".safetensors")
    }
    return Base(release, headers)
