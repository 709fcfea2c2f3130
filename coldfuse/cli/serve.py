"""Run a gateway and an aggregator in one process tree."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.cli.options.operator import ServeOptions
from coldfuse.cli.source import open_store_of
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.processes import run_children


def serve(options: ServeOptions) -> None:
    """Run a gateway and an aggregator together, until stopped."""
    listening, serving, fusing = options.listening, options.serving, options.fusing
    open_store_of(options.store)  # a wrong store or option is one line, not two processes that fail
    parse_duration(fusing.lease)
    for size in filter(None, (fusing.memory, options.gateway_memory, serving.max_uncommitted)):
        parse_size(size)
    files = {"--tls-cert": listening.tls_cert, "--tls-key": listening.tls_key, "--tls-ca": listening.tls_ca}
    flags = {"--insecure": listening.insecure, "--show-names": serving.show_names}
    limits = {
        "--memory": options.gateway_memory, "--max-streams": serving.max_streams,
        "--max-uncommitted": serving.max_uncommitted,
    }  # fmt: skip
    given = [*_words(files), *_words(limits), *(flag for flag, is_given in flags.items() if is_given)]
    settings = {
        "--ray-address": fusing.ray_address, "--workers": fusing.workers, "--memory": fusing.memory,
        "--lease": fusing.lease,
    }  # fmt: skip
    run_children(
        ["gateway", options.store, *given, "--listen", listening.listen],
        {"aggregator": ["aggregator", options.store, *_words(settings)]},
    )


def _words(given: Mapping[str, object]) -> list[str]:
    return [word for option, value in given.items() if value is not None for word in (option, str(value))]
