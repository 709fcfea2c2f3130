"""The contributor's command."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path

import typer

from coldfuse.api.opening import as_contributor, open_gateway
from coldfuse.api.places import resolve_model
from coldfuse.cli.contact import Contact
from coldfuse.cli.data_view import show_data
from coldfuse.cli.data_words import encodings_of, file_format_of, named_columns
from coldfuse.cli.editing import with_edit
from coldfuse.cli.leaving import show_what_would_leave
from coldfuse.cli.model_contribution import GivenModel, contribute_model, given_model
from coldfuse.cli.node_view import node_view
from coldfuse.cli.options.contributor import ContributeOptions, Training
from coldfuse.cli.options.shared import NodeColumns
from coldfuse.cli.source import reach_of, warn
from coldfuse.cli.standing_check import say_auditable, standing_check
from coldfuse.config import home_folder
from coldfuse.contributor.editing import EPOCHS, PATIENCE, TASK
from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.contributor.manifest import default_name
from coldfuse.contributor.node import Node
from coldfuse.contributor.sender import Sender
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.signing import identity_of, require_sender
from coldfuse.contributor.state import NodeFolder
from coldfuse.core.names import Identity
from coldfuse.data.addresses import place_of
from coldfuse.errors import ColdfuseError
from coldfuse.gateway import Gateway
from coldfuse.processes import stop_on_signals
from coldfuse.training.arguments import read_train_args
from coldfuse.training.settings import TrainingSettings, line_of_way, lines_of_objectives, with_teachers
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest
from coldfuse.transport.address import parse_address
from coldfuse.transport.connect import Reach
from coldfuse.trust.home import known_federations


def contribute(options: ContributeOptions) -> None:
    """Run a node: round after round until stopped, or as the options say."""
    options = with_edit(options)
    if options.once and options.rounds is not None:
        raise typer.BadParameter("give --once or --rounds, not both")
    if bool(options.data) == (options.model is not None):
        raise typer.BadParameter(
            "give --data FILE to train on, --edit NAME=FILE of a fact, or --model FOLDER of what was trained elsewhere"
        )
    _refuse_idle(options)
    settings = _settings(options) if options.model is None else _given(options)
    stop, connection = stop_on_signals(), options.connection
    with ExitStack() as stack:
        report = stack.enter_context(node_view(as_json=options.as_json))
        contact = Contact(options.address, connection.patience, lambda phase, message: report(
            NodeEvent(phase=phase, base_release=None, message=message)
        ))  # fmt: skip
        parse_address(options.address)
        try:
            with contact.made():
                settings = _as_joined(settings, options, reach_of(connection, contact))
            folder = NodeFolder(options.work or Path(".coldfuse") / settings.who.id)
            stack.enter_context(folder.held())
            reach = reach_of(connection, contact, secret=folder.secret())
            name = settings.who.display_name or settings.who.id
            identify = as_contributor(name, default=name, sends=not options.dry_run)
            with contact.made():
                client = stack.enter_context(open_gateway(
                    options.address, reach, root=connection.root, identify=identify, warn=warn,
                    on_connect=partial(_hang_up_on, stop),
                ))  # fmt: skip
            if not options.dry_run:
                require_sender(client)
            say_auditable(client)
            stack.enter_context(standing_check(options, client, report, stop))
            if isinstance(settings, GivenModel):
                contribute_model(Sender(settings, folder, client, report, stop), settings, options)
            else:
                _run(Node(settings, folder, client, report, stop), options)
        except (StoppedError, ColdfuseError, ValueError):  # ValueError: gRPC's word for a call after hanging up
            if not stop.is_set():
                raise
            typer.echo("stopped; started again, it goes on from here", err=True)


def _as_joined(
    settings: NodeSettings | GivenModel, options: ContributeOptions, reach: Reach
) -> NodeSettings | GivenModel:
    """Return the settings under the name that this user has joined the federation by, where none was given."""
    root = options.connection.root
    if options.name is not None or not (root or known_federations(home_folder())):
        return settings
    identify = as_contributor(None, default=settings.who.id, sends=not options.dry_run)
    with open_gateway(options.address, reach, root=root, identify=identify, warn=lambda _: None) as gateway:
        identity = identity_of(gateway)
    if identity is None:
        return settings
    name = identity.display_name or identity.name
    return (
        replace(settings, name=name)
        if isinstance(settings, NodeSettings)
        else replace(settings, who=replace(Identity.of(name), is_named=options.is_named))
    )


_OF_SEVERAL = {"objectives": "objective", "teachers": "teacher"}
_OF_A_MODEL = {"num_examples", "base", "release", "statistics"}
_OF_DATA = {"validation", "task", "rounds", "send_anyway", "body"} | {
    field.name for kind in (Training, NodeColumns) for field in fields(kind)
}  # fmt: skip


def _refuse_idle(options: ContributeOptions) -> None:
    """Refuse what would be taken and heeded nowhere."""
    idle, whose = (_OF_A_MODEL, "--model") if options.model is None else (_OF_DATA, "training on --data")
    for part in (options, options.training, options.columns):
        for field in fields(part):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if field.name in idle and getattr(part, field.name) != default:
                option = _OF_SEVERAL.get(field.name, field.name).replace("_", "-")
                raise typer.BadParameter(f"--{option} is for {whose}; leave it out")


def _hang_up_on(stop: threading.Event, client: Gateway) -> None:
    """Cut off the call that runs when the node is asked to stop: it may wait for minutes."""

    def wait() -> None:
        stop.wait()
        client.close()

    threading.Thread(target=wait, name="hang up", daemon=True).start()


def _run(node: Node, options: ContributeOptions) -> None:
    if options.dry_run:
        show_what_would_leave(node, as_json=options.as_json)
    elif options.once:
        node.contribute(wait_for_release=False)
    else:
        node.run(rounds=options.rounds)


def _given(options: ContributeOptions) -> GivenModel:
    name = default_name(str(options.model)) if options.name is None else options.name
    Identity.of(name, what="--name")
    encoding, _ = encodings_of(options.encoding, options.columns)
    return given_model(options, name, encoding)


def _settings(options: ContributeOptions) -> NodeSettings:
    places = "\n".join(map(place_of, options.data))
    name = default_name(places) if options.name is None else options.name
    Identity.of(name, what="--name")  # before anything is read
    encoding, columns = encodings_of(options.encoding, options.columns)
    task = find_task(options.task)
    training = _training(options.training, is_edit=task.name == TASK)
    request = DataRequest(
        data=options.data, columns=named_columns(columns), file_format=file_format_of(columns),
        limit=columns.max_examples,
    )  # fmt: skip
    train = show_data(task.read(request), as_events=options.as_json)
    if options.validation:
        held_out = task.read(replace(request, data=options.validation), like=train)
        show_data(held_out, what="validation", as_events=options.as_json)
    else:
        train, held_out = set_apart(task, train, seed=training.seed)
    return NodeSettings(
        name=name, train=train, validation=held_out, training=training, task=task, send_anyway=options.send_anyway,
        encoding=encoding, body=options.body, is_named=options.is_named, edit=options.edit,
    )  # fmt: skip


def _training(given: Training, *, is_edit: bool) -> TrainingSettings:
    args = read_train_args(given.train_args) if given.train_args else {}
    usual = TrainingSettings()
    return TrainingSettings(
        num_epochs=given.epochs or (EPOCHS if is_edit else usual.num_epochs),
        patience=PATIENCE if is_edit else usual.patience,
        learning_rate=given.learning_rate, batch_size=given.batch_size,
        max_length=given.max_length, tokens_at_once=given.tokens_at_once, threads=given.threads, device=given.device,
        seed=given.seed, way=line_of_way(given.train, freeze_embeddings=given.freeze_embeddings),
        objectives=lines_of_objectives(_objectives(given)), train_args=args,
    )  # fmt: skip


def _objectives(given: Training) -> list[str]:
    lines = [*given.objectives, *(["wise-ft"] if given.wise_ft else [])]
    return with_teachers(lines, [resolve_model(name) for name in given.teachers])
