"""The operator's commands: create a federation, and serve it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import typer

from coldfuse.cli.recipe import FLAVOUR, METHOD, PARAM, recipe_of, require_federated
from coldfuse.cli.source import open_store_of, resolve_model, tls_files
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.core.model_files import is_tokenizer_file
from coldfuse.processes import LISTENING, run_children, stop_on_signals

_STORE = typer.Argument(help="A folder, or s3://BUCKET/PREFIX.", show_default=False)
_LISTEN = typer.Option("127.0.0.1:0", help="Where the gateway listens; port 0: the system picks one.")
_TLS_CERT = typer.Option(None, help="The gateway's certificate, PEM. Needed for other addresses than loopback.")
_TLS_KEY = typer.Option(None, help="Its private key, PEM.")
_TLS_CA = typer.Option(None, help="Ask callers for a certificate of this authority, PEM.")
_INSECURE = typer.Option(False, "--insecure", help="Allow plain text on an address that other machines reach.")
_RAY_ADDRESS = typer.Option(None, help="Join this Ray cluster (host:port or auto); without it, one is started here.")
_WORKERS = typer.Option(None, min=1, help="Processors for a Ray that is started here; all by default.")
_MEMORY = typer.Option(None, help="Memory for the workers of one machine, 2GiB; an eighth of it by default.")
_ROUNDS = typer.Option(None, min=1, help="End after this many releases; until stopped by default.")
_LEASE = typer.Option("10s", help="Another aggregator takes over from one that was silent for so long.")

_GARBAGE_S = 7 * 86400.0
"""Unfinished writes older than this are dropped when a gateway starts; an upload that slow will send its part again."""


def init(
    store: str = _STORE,
    base: str = typer.Option(..., help="The pretrained model: a Hugging Face folder or hub id.", show_default=False),
    name: str = typer.Option("federation", help="The federation's name: lower case, digits, '.', '_', '-'."),
    method: str = METHOD,
    param: list[str] = PARAM,
    flavour: str | None = FLAVOUR,
    quorum: int = typer.Option(2, min=1, help="Admitted contributions that let a round close."),
    deadline: str = typer.Option("15m", help="After so long a round without a quorum is abandoned (90s, 15m, 2h)."),
) -> None:
    """Create a federation from a base model.

    Example: coldfuse init ./federation --base ./all-MiniLM-L6-v2 --quorum 4 --deadline 2h
    """
    from coldfuse.engine.recipes import write_recipe
    from coldfuse.registry.creation import create_federation
    from coldfuse.storage import check_store, open_store
    from coldfuse.tensors.checkpoint import open_checkpoint

    recipe = recipe_of(method, param, flavour)
    require_federated(recipe, quorum=quorum)
    line = write_recipe(recipe) if param or flavour else method
    rules = {"quorum": quorum, "deadline_s": parse_duration(deadline)}
    opened, model = open_store(store), resolve_model(base)
    open_checkpoint(model)  # what is no model leaves no trace in the store
    check_store(opened)
    federation = create_federation(opened, name=name, base=model, origin=base, method=line, rules=rules)
    release = federation.latest()
    size = sum(blob.size_bytes for blob in release.files.values())
    typer.echo(f"created {federation.settings.name} in {store}: release 0, {size / 2**20:.1f} MiB")
    typer.echo(f"files, which everybody who reaches the federation can have: {', '.join(sorted(release.files))}")
    _warn_without_tokenizer(base, release.files)
    typer.echo(f"next: coldfuse serve {store}")
    typer.echo(f"digest {release.model_digest}")


def gateway(
    store: str = _STORE,
    listen: str = _LISTEN,
    tls_cert: Path | None = _TLS_CERT,
    tls_key: Path | None = _TLS_KEY,
    tls_ca: Path | None = _TLS_CA,
    insecure: bool = _INSECURE,
    max_streams: int = typer.Option(128, min=1, help="Uploads at a time, and as many downloads; a few MiB each."),
) -> None:
    """Serve contributors and consumers over gRPC; as many gateways on one store as wanted.

    Example: coldfuse gateway s3://models/federation --listen 0.0.0.0:7700 --tls-cert gw.pem --tls-key gw.key
    """
    from coldfuse.storage import check_store, collect_garbage
    from coldfuse.transport.server import GatewaySettings, serve_gateway

    federation = open_store_of(store)
    check_store(federation.store)
    collect_garbage(federation.store, older_than_s=_GARBAGE_S)
    tls = tls_files(tls_ca, tls_cert, tls_key)
    settings = GatewaySettings(listen=listen, tls=tls, insecure=insecure, max_streams=max_streams)
    stop = stop_on_signals()
    with serve_gateway(federation, settings) as running:
        typer.echo(f"{LISTENING}{running.address}")
        sys.stdout.flush()
        stop.wait()


def aggregator(
    store: str = _STORE,
    ray_address: str | None = _RAY_ADDRESS,
    workers: int | None = _WORKERS,
    memory: str | None = _MEMORY,
    rounds: int | None = _ROUNDS,
    lease: str = _LEASE,
) -> None:
    """Screen, fuse and publish, round after round, on Ray. A second one on the same store waits, and takes over.

    Example: coldfuse aggregator s3://models/federation --ray-address auto
    """
    from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
    from coldfuse.config import prepare_ray

    federation = open_store_of(store)
    memory_bytes = parse_size(memory) if memory else None
    poll_s = 2.0 if "://" in store else 0.5  # every look at S3 is paid for
    settings = AggregatorSettings(rounds=rounds, poll_s=poll_s, lease_ttl_s=parse_duration(lease))
    stop = stop_on_signals()
    prepare_ray()
    from coldfuse.cli.events import describe
    from coldfuse.engine.execution import ray_executor

    with ray_executor(ray_address, num_cpus=workers, memory_bytes=memory_bytes) as executor:
        stop_on_signals(stop)  # Ray has taken SIGTERM: with its handler the command would end in a trace
        typer.echo("aggregating")
        for number, event in serve_rounds(federation, executor, settings, stop=stop):
            for line in describe(event):
                typer.echo(f"round {number}: {line}")
            sys.stdout.flush()


def serve(
    store: str = _STORE,
    listen: str = _LISTEN,
    tls_cert: Path | None = _TLS_CERT,
    tls_key: Path | None = _TLS_KEY,
    tls_ca: Path | None = _TLS_CA,
    insecure: bool = _INSECURE,
    ray_address: str | None = _RAY_ADDRESS,
    workers: int | None = _WORKERS,
    memory: str | None = _MEMORY,
    lease: str | None = typer.Option(None, help="As the aggregator's."),
) -> None:
    """Run a gateway and an aggregator together, until stopped.

    Example: coldfuse serve ./federation --listen 127.0.0.1:7700
    """
    open_store_of(store)  # a wrong store or option is one line, not two processes that fail
    for text, parse in ((memory, parse_size), (lease, parse_duration)):
        if text:
            parse(text)
    files = _options({"--tls-cert": tls_cert, "--tls-key": tls_key, "--tls-ca": tls_ca})
    fusing = _options({"--ray-address": ray_address, "--workers": workers, "--memory": memory, "--lease": lease})
    run_children(
        ["gateway", store, *files, *(["--insecure"] if insecure else []), "--listen", listen],
        {"aggregator": ["aggregator", store, *fusing]},
    )


def _warn_without_tokenizer(base: str, files: Iterable[str]) -> None:
    if not any(is_tokenizer_file(file) for file in files):
        typer.echo(
            f"coldfuse: {base}: no tokenizer in it, so nobody can train this model on texts; write it there with "
            "tokenizer.save_pretrained, and create the federation again",
            err=True,
        )


def _options(given: Mapping[str, object]) -> list[str]:
    return [word for option, value in given.items() if value is not None for word in (option, str(value))]
