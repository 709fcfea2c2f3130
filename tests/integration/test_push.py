"""A release on the Hub: what goes there, what never does, and what is refused, over HTTP to a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_models import SECRET, TOKEN, Hub, Repo, model_hub
from huggingface_hub import constants
from operators import Person
from rooted import make_keys
from tiny_rounds import lead, make_changes, make_contribution, make_federation, make_model, receive, write_model

import coldfuse
from coldfuse.api.places import facts_of
from coldfuse.errors import ConflictError, NotAllowedError, StorageError, TransportError, TrustError, UserInputError
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how huggingface_hub calls httpx
MODEL = make_model()
NAME = "hf://ward/minilm"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that this process and its children know."""
    with model_hub() as hub:
        for name, value in (hub.environment() | {"HF_HOME": str(tmp_path / "hf")}).items():
            monkeypatch.setenv(name, value)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield hub


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """A federation of two releases, of which one contributor of two has agreed to be named."""
    federation = make_federation(tmp_path, MODEL, quorum=2)
    add_release(federation, 1)
    return federation


def add_release(federation: Federation, number: int, *, all_named: bool = False) -> None:
    for name, is_named in (("alice", True), ("bob", all_named or None)):
        changes = make_changes(MODEL, seed=number * ord(name[0]))
        receive(federation, make_contribution(federation, name, changes, is_named=is_named))
    lead(federation, number)
    assert federation.latest().release == number


def push(federation: Federation, **options: object) -> coldfuse.Pushed:
    return coldfuse.push(federation.store.url, NAME, **options)  # type: ignore[arg-type]


def test_a_release_arrives_whole_private_and_tagged(hub: Hub, federation: Federation, tmp_path: Path) -> None:
    pushed = push(federation)
    repo = hub.repos["ward/minilm"]
    assert repo.private
    assert repo.tags == {"release-1": pushed.commit} == {"release-1": repo.branches["main"]}
    held = repo.head()
    assert held.keys() == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    coldfuse.fetch(federation.store.url, tmp_path / "out")
    assert held["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()
    assert held["README.md"] == (tmp_path / "out" / "README.md").read_bytes()
    assert b"alice" in held["README.md"]
    assert not any(b"bob" in data for data in held.values())


def test_what_names_all_contributors_goes_only_where_all_have_agreed(
    hub: Hub, federation: Federation, tmp_path: Path
) -> None:
    person = Person(tmp_path / "home")
    refused = person.fail("push", federation.store.url, NAME, "--provenance")
    assert "1 contribution of those who have not agreed to be named" in refused
    assert hub.repos == {}
    add_release(federation, 2, all_named=True)
    person.succeed("push", federation.store.url, NAME, "--provenance")
    held = hub.repos["ward/minilm"].head()
    assert ".coldfuse/release.json" in held
    said = person.succeed("verify", downloaded(hub, tmp_path / "copy")).stdout
    assert "release 2: its bytes are right" in said


def downloaded(hub: Hub, folder: Path) -> Path:
    """Write what the repository holds into a folder, as a download of it does."""
    for path, data in hub.repos["ward/minilm"].head().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_what_is_signed_verifies_as_it_comes_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    person, store = Person(tmp_path / "home"), LocalStore(tmp_path / "store")
    base = write_model(tmp_path / "base", MODEL)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# the base's own\n")
    made = create_federation(
        store, name="ward", base=base, origin="base", method="mean", rules={"quorum": 2, "deadline_s": 60.0},
        trust=make_keys(), base_facts=facts_of(str(base), base),
    )  # fmt: skip
    person.succeed("push", store.url, NAME, "--provenance", "--root", made.settings.root)
    copy, key = downloaded(hub, tmp_path / "copy"), tmp_path / "key.pem"
    person.succeed("fetch", store.url, "--out", tmp_path / "out", "--model-key", key)
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", key]
    done = subprocess.run(
        [*command, "--signature", copy / "model.sig", copy], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "succeeded" in done.stdout) == (0, True), done.stderr
    assert "fine" in person.succeed("verify", copy).stdout
    card = (copy / "README.md").read_text()
    assert 'license: "apache-2.0"' in card
    assert "the base's own" not in card


def test_the_same_release_again_sends_nothing(hub: Hub, federation: Federation) -> None:
    first = push(federation)
    hub.asked.clear()
    again = push(federation)
    assert (again.commit, again.notes) == (first.commit, ("it is there already, as release-1",))
    assert not [line for line in hub.asked if line.startswith("PUT") or "/commit/" in line]


def test_the_next_release_takes_out_what_only_the_one_before_had(hub: Hub, federation: Federation) -> None:
    push(federation)
    repo = hub.repos["ward/minilm"]
    old = repo.add({**repo.head(), "model-00001-of-00002.safetensors": b"x", "model.sig": b"x", "LICENSE": b"mine"})
    add_release(federation, 2)
    pushed = push(federation)
    assert pushed.removed == ("model-00001-of-00002.safetensors", "model.sig")
    assert repo.head().keys() == {".gitattributes", "LICENSE", "README.md", "config.json", "model.safetensors"}
    assert repo.commits[old]["model.sig"] == b"x"
    assert set(repo.tags) == {"release-1", "release-2"}


def test_a_dry_run_asks_the_hub_nothing(hub: Hub, federation: Federation) -> None:
    plan = push(federation, dry_run=True)
    assert {each.path for each in plan.files} == {"README.md", "config.json", "model.safetensors"}
    assert (plan.commit, hub.repos) == (None, {})
    assert not [line for line in hub.asked if "models" in line]


def test_it_goes_on_where_it_was_killed(hub: Hub, federation: Federation) -> None:
    hub.fails["/commit/"] = 500
    with pytest.raises(StorageError, match="push again, it goes on"):
        push(federation)
    assert len(hub.large) == 1
    hub.asked.clear()
    push(federation)
    assert not [line for line in hub.asked if line.startswith("PUT")]
    assert hub.repos["ward/minilm"].tags.keys() == {"release-1"}


def test_killed_between_commit_and_tag_it_gets_its_tag(hub: Hub, federation: Federation) -> None:
    hub.fails["/tag/"] = 500
    with pytest.raises(StorageError):
        push(federation)
    head = hub.repos["ward/minilm"].branches["main"]
    assert push(federation).commit == head
    assert hub.repos["ward/minilm"].tags == {"release-1": head}


def alter(federation: Federation, folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def test_what_does_not_verify_is_not_pushed(hub: Hub, federation: Federation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    coldfuse.fetch(federation.store.url, out)
    alter(federation, out)
    with pytest.raises(TrustError, match=r"is not pushed, as it does not verify: .*model\.safetensors"):
        coldfuse.push(out, NAME)
    (out / ".coldfuse" / "release.json").unlink()
    with pytest.raises(UserInputError, match="no release lies here whole"):
        coldfuse.push(out, NAME)
    assert hub.repos == {}


@pytest.mark.parametrize("file", ["README.md", "model.sig", "config.json"])
def test_a_link_in_a_folder_of_somebody_elses_sends_nothing_of_this_machine(
    hub: Hub, federation: Federation, tmp_path: Path, file: str
) -> None:
    out, secret = tmp_path / "out", tmp_path / "secret"
    coldfuse.fetch(federation.store.url, out)
    secret.write_bytes((out / file).read_bytes() if (out / file).exists() else b"secret")
    (out / file).unlink(missing_ok=True)
    (out / file).symlink_to(secret)
    with pytest.raises(UserInputError, match=f"{file}: is a link out of the folder"):
        coldfuse.push(out, NAME)
    assert hub.repos == {}


def test_a_public_repository_is_not_pushed_to_by_accident(hub: Hub, federation: Federation) -> None:
    hub.repos["ward/minilm"] = Repo(private=False)
    hub.repos["ward/minilm"].add({})
    with pytest.raises(NotAllowedError, match="is public"):
        push(federation)
    assert push(federation, public=True).commit


FOREIGN = {
    "weights": {"model.safetensors": b"somebody's"},
    "card": {"README.md": b"# mine"},
    "license": {"LICENSE": b"mine"},
    "binary-card": {"README.md": b"\xff\xfe"},
}


@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN)
def test_what_somebody_else_has_put_there_stays(hub: Hub, federation: Federation, files: dict[str, bytes]) -> None:
    hub.repos["ward/minilm"] = Repo()
    before = hub.repos["ward/minilm"].add(files)
    with pytest.raises(ConflictError, match="holds what coldfuse has not pushed"):
        push(federation)
    assert hub.repos["ward/minilm"].branches["main"] == before
    push(federation, overwrite=True)
    assert hub.repos["ward/minilm"].commits[before] == files


def test_it_does_not_go_back_unless_told(hub: Hub, federation: Federation) -> None:
    add_release(federation, 2)
    push(federation)
    with pytest.raises(ConflictError, match="holds release 2, and release 1 is older"):
        push(federation, release=1)
    push(federation, release=1, allow_older=True)
    assert b"- release: 1," in hub.repos["ward/minilm"].head()["README.md"]


def test_a_tag_of_something_else_is_not_taken_for_it(hub: Hub, federation: Federation) -> None:
    push(federation)
    repo = hub.repos["ward/minilm"]
    repo.tags["release-1"] = repo.add({"README.md": b"# other"})
    with pytest.raises(ConflictError, match="release-1 names something else"):
        push(federation)


def test_who_pushes_meanwhile_is_not_overwritten(hub: Hub, federation: Federation) -> None:
    push(federation)
    add_release(federation, 2)
    repo = hub.repos["ward/minilm"]
    hub.before_commit = lambda: repo.add({**repo.head(), "LICENSE": b"mine"})
    with pytest.raises(ConflictError, match="somebody else has changed it meanwhile"):
        push(federation)
    assert "release-2" not in repo.tags
    push(federation)
    assert repo.head()["LICENSE"] == b"mine"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://ward", "expected hf://OWNER/NAME"),
        ("ward/minilm", "expected hf://OWNER/NAME"),
        ("hf://ward/../x", "expected hf://OWNER/NAME"),
        ("hf://ward/mini lm", "expected hf://OWNER/NAME"),
        ("hf://datasets/ward/x", "expected hf://OWNER/NAME"),
        ("hf://ward/minilm\x1b[2J", "expected hf://OWNER/NAME"),
    ],
)
def test_what_is_no_repository_is_said(federation: Federation, address: str, said: str) -> None:
    with pytest.raises(UserInputError, match=said) as caught:
        coldfuse.push(federation.store.url, address)
    assert str(caught.value).isprintable()


def test_a_branch_that_is_not_there_is_said(hub: Hub, federation: Federation) -> None:
    push(federation)
    with pytest.raises(UserInputError, match="no branch 'dev'"):
        push(federation, branch="dev")


def test_a_hub_that_is_away_is_one_line(hub: Hub, federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TransportError) as caught:
        push(federation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failing", ["", "PUT /lfs/", "/preupload/", "/commit/", "/repos/create", "/lfs/verify"])
def test_neither_token_nor_signed_address_is_in_a_log_or_an_error(
    hub: Hub, federation: Federation, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    said = ""
    if failing:
        hub.fails[failing] = 403
        with pytest.raises(NotAllowedError) as caught:
            push(federation)
        said = f"{caught.value!r}"
    else:
        push(federation)
    assert any(line.startswith("PUT") for line in hub.asked) or failing in ("/preupload/", "/repos/create")
    assert TOKEN not in said + caplog.text
    assert SECRET.partition("=")[2] not in said + caplog.text


def test_the_command_prints_neither(hub: Hub, federation: Federation) -> None:
    command = [sys.executable, "-m", "coldfuse", "--verbose", "push", federation.store.url, NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, "tag release-1" in done.stdout) == (0, True), done.stderr
    for secret in (TOKEN, SECRET.partition("=")[2]):
        assert secret not in done.stdout + done.stderr


def test_a_token_that_may_not_is_said(hub: Hub, federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    with pytest.raises(NotAllowedError, match="log in with a token"):
        push(federation)
