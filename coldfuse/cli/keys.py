"""The root: who signs what; shown, exported, and changed by operators."""

from __future__ import annotations

import json
import time

import typer

from coldfuse.api.values import when
from coldfuse.cli.holding import Holding, hold
from coldfuse.cli.options.trust import (
    KeysAddOptions,
    KeysExportOptions,
    KeysRemoveOptions,
    KeysRenewOptions,
    KeysRotateOptions,
    KeysShowOptions,
    KeysSignOptions,
    KeysThresholdOptions,
    OperatorKey,
)
from coldfuse.cli.proposed import describe
from coldfuse.errors import UserInputError
from coldfuse.registry.proposals import Proposal, find_proposal, read_proposals
from coldfuse.registry.root_changes import change_root
from coldfuse.trust.keys import PrivateKey, Signer
from coldfuse.trust.root import ROLES, RoleName, Root
from coldfuse.trust.root_changes import (
    SHORT,
    find_key,
    renewed,
    with_key,
    with_other_key,
    with_threshold,
    without_key,
)
from coldfuse.trust.signers import read_public_key


def show(options: KeysShowOptions) -> None:
    """Show the root."""
    holding = hold(options.store, root=options.root)
    here = {key.id: role for role, key in reversed(holding.keyring.held().items())}
    proposals = read_proposals(holding.store, holding.known)
    root = holding.known.root
    if options.as_json:
        typer.echo(json.dumps(_as_json(holding, root, here, proposals)))
        return
    typer.echo(f"fingerprint {holding.known.fingerprint}")
    kind = "open: any key may contribute" if root.is_open else "closed: members alone take part"
    typer.echo(f"root {root.version}, valid until {when(root.expires_at_s)}; {kind}")
    for role in ROLES:
        held = root.roles[role]
        typer.echo(f"{role}: {held.threshold} of {len(held.keys)} must sign")
        for keyid in held.keys:
            place = f"  here ({here[keyid]})" if keyid in here else ""
            typer.echo(f"  {keyid[:SHORT]}  {root.keys[keyid].scheme}{place}")
    for proposal in proposals:
        typer.echo(f"proposed: {proposal.id}: {'; '.join(describe(proposal, holding))}")


def _as_json(holding: Holding, root: Root, here: dict[str, str], proposals: list[Proposal]) -> dict[str, object]:
    return {
        "fingerprint": holding.known.fingerprint,
        "version": root.version,
        "expires_at_s": root.expires_at_s,
        "is_open": root.is_open,
        "roles": {
            role: {
                "threshold": held.threshold,
                "keys": [
                    {"id": keyid, "scheme": root.keys[keyid].scheme, "here": keyid in here} for keyid in held.keys
                ],
            }
            for role, held in root.roles.items()
        },
        "proposals": [_proposal_as_json(proposal, holding) for proposal in proposals],
    }


def _proposal_as_json(proposal: Proposal, holding: Holding) -> dict[str, object]:
    return {
        "id": proposal.id,
        "changes": describe(proposal, holding),
        "lacks": proposal.lacking(holding.known),
        "signed_by": sorted({signature.keyid for each in proposal.signatures for signature in each}),
    }


def add(options: KeysAddOptions) -> None:
    """Let more keys sign for a role."""
    holding, now_s = hold(options.store, root=options.signing.root), time.time()
    after = holding.known.root
    for given in options.new:
        after = with_key(after, options.role, read_public_key(given), now_s=now_s)
    _change(holding, after, options.signing)


def remove(options: KeysRemoveOptions) -> None:
    """Let a key sign for a role no longer."""
    holding = hold(options.store, root=options.signing.root)
    _change(holding, without_key(holding.known.root, options.role, options.keyid, now_s=time.time()), options.signing)


def threshold(options: KeysThresholdOptions) -> None:
    """Say how many keys of a role must sign."""
    holding = hold(options.store, root=options.signing.root)
    _change(
        holding, with_threshold(holding.known.root, options.role, options.count, now_s=time.time()), options.signing
    )


def renew(options: KeysRenewOptions) -> None:
    """Renew the root."""
    holding, now_s = hold(options.store, root=options.signing.root), time.time()
    after = renewed(holding.known.root, expires_at_s=now_s + options.days * 86400, now_s=now_s)
    _change(holding, after, options.signing)


def rotate(options: KeysRotateOptions) -> None:
    """Put a new key into the place of an old one."""
    holding = hold(options.store, root=options.signing.root)
    root, held = holding.known.root, holding.keyring.held()
    own = next((key.id for key in held.values() if key.id in root.roles[options.role].keys), None)
    if own is None and options.old is None:
        listed = ", ".join(keyid[:SHORT] for keyid in root.roles[options.role].keys)
        raise UserInputError(f"no key of role {options.role} is on this machine; say which goes: --old ID, of {listed}")
    old = find_key(root, options.role, options.old or own or "")
    place = next((role for role in ROLES if role in held and held[role].id == old), options.role)
    new = holding.keyring.stage(place, given=options.to)
    _change(holding, with_other_key(root, old, new.public, now_s=time.time()), options.signing)


def _change(holding: Holding, after: Root, signing: OperatorKey) -> None:
    """Sign a change of the root, and what comes with it, with every key here that may."""
    proposal = change_root(
        holding.store, holding.known, after.model_copy(update={"version": holding.known.root.version + 1})
    )
    signers = holding.signers("root", signing, after=after)
    if len(proposal.documents) > 1:
        known = {signer.public.id for signer in signers}
        operators = holding.signers("operator", signing, after=after)
        signers += [signer for signer in operators if signer.public.id not in known]
    described = describe(proposal, holding)
    if holding.carry_out(proposal, signers):
        typer.echo(f"root {after.version}: {'; '.join(described)}")


def sign(options: KeysSignOptions) -> None:
    """Sign what another operator has proposed."""
    holding = hold(options.store, root=options.signing.root)
    proposals = read_proposals(holding.store, holding.known)
    if options.proposal is None:
        _list(options, holding, proposals)
        return
    proposal = find_proposal(proposals, options.proposal)
    signers = _signers_of(proposal, holding, options.signing)
    described = describe(proposal, holding)
    is_out = holding.carry_out(proposal, signers)
    if options.as_json:
        typer.echo(json.dumps({"id": proposal.id, "changes": described, "is_published": is_out}))
    else:
        typer.echo(f"{'published' if is_out else 'signed'}: {'; '.join(described)}")


def _signers_of(proposal: Proposal, holding: Holding, signing: OperatorKey) -> list[Signer]:
    """Return the keys here that may sign any of a proposal's documents."""
    after, found = proposal.new_root, dict[str, Signer]()
    wanted: list[RoleName] = ["root" if each.kind == "root" else "operator" for each in proposal.documents]
    first_error: UserInputError | None = None
    for role in dict.fromkeys(wanted):
        try:
            found |= {signer.public.id: signer for signer in holding.signers(role, signing, after=after)}
        except UserInputError as error:  # of a root operator who is no operator, and the other way round
            first_error = first_error or error
    if not found and first_error is not None:
        raise first_error
    return list(found.values())


def _list(options: KeysSignOptions, holding: Holding, proposals: list[Proposal]) -> None:
    if options.as_json:
        typer.echo(json.dumps([_proposal_as_json(proposal, holding) for proposal in proposals]))
        return
    if not proposals:
        typer.echo("nothing waits for signatures")
    for proposal in proposals:
        lacking = "; ".join(proposal.lacking(holding.known)) or "nothing"
        typer.echo(f"{proposal.id}: {'; '.join(describe(proposal, holding))}; lacks {lacking}")


def export(options: KeysExportOptions) -> None:
    """Print the public key of this machine."""
    holding = hold(options.store, root=options.signing.root)
    if options.signing.key is None and not holding.keyring.has(options.role):
        if not options.is_new:
            raise UserInputError(f"there is no key of role {options.role} here yet; --new makes one")
        key = PrivateKey.generate_p256() if options.role == "model" else PrivateKey.generate()
        typer.echo(f"made {holding.folder.write_key(options.role, key)}", err=True)
    signer = holding.keyring.find(options.role, given=options.signing.key)
    typer.echo(signer.public.pem.strip())
