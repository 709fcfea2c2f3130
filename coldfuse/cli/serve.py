"""Run a gateway and an aggregator in one process tree."""

from __future__ import annotations

from coldfuse.cli.aggregator import aggregator_arguments, check_fusing, words
from coldfuse.cli.channel_settings import check_telling
from coldfuse.cli.options.operator import ServeOptions
from coldfuse.cli.serving import with_keys
from coldfuse.cli.source import start_on
from coldfuse.cli.units import parse_size
from coldfuse.processes import run_children


def serve(options: ServeOptions) -> None:
    """Run a gateway and an aggregator together, until stopped."""
    listening, serving, fusing = options.listening, options.serving, options.fusing
    # first of all: what is wrong with a store or a key is one line, not two processes that fail
    federation = start_on(options.store, root=options.holding.root)
    with_keys(federation, options.holding.keys)
    check_fusing(fusing)
    check_telling(options.telling)
    for size in filter(None, (options.gateway_memory, serving.max_uncommitted)):
        parse_size(size)
    given = words({
        "--tls-cert": listening.tls_cert, "--tls-key": listening.tls_key, "--tls-ca": listening.tls_ca,
        "--memory": options.gateway_memory, "--max-streams": serving.max_streams,
        "--max-uncommitted": serving.max_uncommitted, "--root": options.holding.root,
    })  # fmt: skip
    flags = {"--insecure": listening.insecure, "--show-names": serving.show_names}
    given += [flag for flag, is_given in flags.items() if is_given]
    run_children(
        ["gateway", options.store, *given, "--listen", listening.listen],
        {"aggregator": aggregator_arguments(options.store, fusing, options.holding, options.telling)},
    )
