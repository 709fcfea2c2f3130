"""Run a gateway and an aggregator in one process tree."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.cli.options.operator import ServeOptions
from coldfuse.cli.source import start_on
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.processes import run_children


def serve(options: ServeOptions) -> None:
    """Run a gateway and an aggregator together, until stopped."""
    listening, fusing = options.listening, options.fusing
    start_on(options.store)  # a wrong store or option is one line, not two processes that fail
    parse_duration(fusing.lease)
    if fusing.memory:
        parse_size(fusing.memory)
    files = {"--tls-cert": listening.tls_cert, "--tls-key": listening.tls_key, "--tls-ca": listening.tls_ca}
    insecure = ["--insecure"] if listening.insecure else []
    settings = {
        "--ray-address": fusing.ray_address, "--workers": fusing.workers, "--memory": fusing.memory,
        "--lease": fusing.lease,
    }  # fmt: skip
    run_children(
        ["gateway", options.store, *_words(files), *insecure, "--listen", listening.listen],
        {"aggregator": ["aggregator", options.store, *_words(settings)]},
    )


def _words(given: Mapping[str, object]) -> list[str]:
    return [word for option, value in given.items() if value is not None for word in (option, str(value))]
