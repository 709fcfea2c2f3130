"""Run a gateway and an aggregator in one process tree."""

from __future__ import annotations

from coldfuse.cli.aggregator import aggregator_arguments, check_fusing
from coldfuse.cli.options.operator import ServeOptions
from coldfuse.cli.source import open_store_of
from coldfuse.processes import run_children


def serve(options: ServeOptions) -> None:
    """Run a gateway and an aggregator together, until stopped."""
    listening, fusing = options.listening, options.fusing
    open_store_of(options.store)  # a wrong store or option is one line, not two processes that fail
    check_fusing(fusing)
    files = {"--tls-cert": listening.tls_cert, "--tls-key": listening.tls_key, "--tls-ca": listening.tls_ca}
    tls = [word for option, value in files.items() if value is not None for word in (option, str(value))]
    insecure = ["--insecure"] if listening.insecure else []
    run_children(
        ["gateway", options.store, *tls, *insecure, "--listen", listening.listen],
        {"aggregator": aggregator_arguments(options.store, fusing)},
    )
