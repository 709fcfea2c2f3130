"""Commands and the API on a federation with a root: by what it is known, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import wait_until
from lies import Lies, lying_gateways
from reviews import write_reviews
from rooted import RootedFederation, make_keys
from tiny_rounds import finetune, lead, make_changes, make_federation, make_model, write_model
from typer.testing import CliRunner

import coldfuse
from coldfuse.cli.main import app
from coldfuse.errors import NotAllowedError, SignatureError, UnknownRootError, UserInputError
from coldfuse.gateway import ContributionVerdict, Decision
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.home import FederationFolder, Membership


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RootedFederation:
    made = RootedFederation(tmp_path_factory.mktemp("made"), keys=make_keys(is_open=True))
    ada = made.enroll("ada")
    lead(made.opened(), 1)
    made.send("ada", make_changes(made.model, 1), ada)
    lead(made.opened(), 1)
    return made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLDFUSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=["store", "address"])
def source(request: pytest.FixtureRequest, made: RootedFederation) -> Iterator[str]:
    if request.param == "store":
        yield made.store.url
        return
    with serve_gateway(open_federation(made.store)) as gateway:
        yield gateway.address


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*words: object) -> BaseException:
    error = CliRunner().invoke(app, [str(word) for word in words]).exception
    assert error is not None
    return error


def test_what_nothing_is_known_of_is_refused_until_somebody_gives_its_fingerprint(
    made: RootedFederation, source: str, home: Path, tmp_path: Path
) -> None:
    out, fingerprint = tmp_path / "out", made.keys.fingerprint
    for words in (["fetch", source, "--out", out], ["status", source], ["releases", source]):
        error = refusal(*words)
        assert isinstance(error, UnknownRootError)
        assert f"has the root {fingerprint[:16]}…, and nothing is known of that here; give --root" in str(error)
        assert fingerprint not in str(error)  # which would be copied from whoever may have made it up
    assert not out.exists()
    assert not home.exists()
    assert "release 1 in" in run("fetch", source, "--out", out, "--root", fingerprint)
    assert json.loads(run("status", source, "--json"))["latest"]["number"] == 1  # known from then on
    assert [each["release"] for each in json.loads(run("releases", source, "--json"))] == [1, 0]


def test_python_asks_by_the_same_rules(made: RootedFederation, source: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownRootError, match=r"root= in Python"), coldfuse.connect(source) as federation:
        federation.status()
    with pytest.raises(UserInputError, match="is no fingerprint"):
        coldfuse.connect(source, root="abc")
    with coldfuse.connect(source, root=made.keys.fingerprint) as federation:
        assert federation.fetch(tmp_path / "out").release == 1
        assert [summary.name.number for summary in federation.releases()] == [1, 0]
    with coldfuse.connect(source) as federation:
        assert federation.status().latest.number == 1
    assert FederationFolder(home, made.keys.fingerprint).pinned_root() is not None


def test_python_fetches_in_one_call_by_a_fingerprint(
    made: RootedFederation, source: str, home: Path, tmp_path: Path
) -> None:
    fingerprint = made.keys.fingerprint
    with pytest.raises(SignatureError, match="has the fingerprint"):
        coldfuse.fetch(source, tmp_path / "out", root="0" * 64)
    assert coldfuse.fetch(source, tmp_path / "out", root=fingerprint).release == 1
    assert coldfuse.fetch(source, tmp_path / "again").release == 1  # known from then on
    with coldfuse.connect(source) as federation, pytest.raises(UserInputError, match="is connected already"):
        coldfuse.fetch(federation, tmp_path / "out", root=fingerprint)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"root": 5}, "5 is no fingerprint"), ({"root": b"0" * 64}, "is no fingerprint"),
        ({"root": ""}, "no fingerprint"),
        ({"name": 3}, "name: expected text"), ({"name": ""}, "it is empty"), ({"tls_ca": 5}, "tls_ca: expected a path"),
        ({"source": None}, "source: expected a path"), ({"source": b"x"}, "source: expected a path"),
    ],
    ids=str,
)  # fmt: skip
def test_python_is_told_at_once_what_is_no_text(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserInputError, match=sentence):
        coldfuse.connect(**({"source": "127.0.0.1:9"} | given))  # type: ignore[arg-type]


def test_another_federation_at_a_known_address_is_refused(
    made: RootedFederation, source: str, home: Path, tmp_path: Path
) -> None:
    other = RootedFederation(tmp_path / "other")
    run("status", source, "--root", made.keys.fingerprint)
    error = refusal("status", source, "--root", other.keys.fingerprint)
    assert isinstance(error, SignatureError)
    assert "this is another federation, or somebody pretends to be it" in str(error)
    assert "release" in run("status", source)


def test_a_root_that_is_gone_is_missed(made: RootedFederation, home: Path) -> None:
    lies = Lies()
    with lying_gateways(lies), serve_gateway(open_federation(made.store)) as gateway:
        run("status", gateway.address, "--root", made.keys.fingerprint)
        lies.signed["root/1.json"] = None
        error = refusal("status", gateway.address)
        assert isinstance(error, SignatureError)
        assert "pretends that nothing there is signed" in str(error)
        assert lies.told["root/1.json"]


def test_the_same_federation_at_another_address_cannot_do_without_its_root(made: RootedFederation, home: Path) -> None:
    run("status", made.store.url, "--root", made.keys.fingerprint)
    lies = Lies(signed={"root/1.json": None})
    with lying_gateways(lies), serve_gateway(open_federation(made.store)) as gateway:
        error = refusal("status", gateway.address)
    assert isinstance(error, SignatureError)
    assert "hands out no root" in str(error)


def test_a_closed_federation_is_read_as_the_member_that_one_is(home: Path, tmp_path: Path) -> None:
    made = RootedFederation(tmp_path / "made")
    carl = made.enroll("carl", "consumer")
    folder = FederationFolder(home, made.keys.fingerprint)
    with serve_gateway(open_federation(LocalStore(tmp_path / "made" / "store"))) as gateway:
        error = refusal("status", gateway.address, "--root", made.keys.fingerprint)
        assert isinstance(error, NotAllowedError)
        assert "ask its operator for an invitation" in str(error)
        folder.keep_membership(Membership(federation=made.keys.fingerprint, name="carl"))
        folder.write_key("carl", carl.signer)  # type: ignore[arg-type]
        assert "release 0" in run("fetch", gateway.address, "--out", tmp_path / "out")


def test_of_several_memberships_one_that_holds_reads(home: Path, tmp_path: Path) -> None:
    made = RootedFederation(tmp_path / "made")
    folder = FederationFolder(home, made.keys.fingerprint)
    folder.pin_root(made.store.get("root/1.json"))
    for name in ("ada", "bob", "cy"):
        identity = made.enroll(name)
        folder.keep_membership(Membership(federation=made.keys.fingerprint, name=name))
        folder.write_key(name, identity.signer)  # type: ignore[arg-type]
    folder.key_path("ada").unlink()
    made.revoke("bob", since_s=1.0)
    with serve_gateway(open_federation(LocalStore(tmp_path / "made" / "store"))) as gateway:
        assert "release 0" in run("fetch", gateway.address, "--out", tmp_path / "out")
    made.revoke("cy", since_s=1.0)
    with serve_gateway(open_federation(LocalStore(tmp_path / "made" / "store"))) as gateway:
        with pytest.raises(UserInputError, match="name '': it is empty"):
            coldfuse.connect(gateway.address, name="").status()
        assert "cy: was revoked" in str(refusal("fetch", gateway.address, "--out", tmp_path / "out"))


def test_who_may_not_contribute_hears_so_before_anything_is_trained(home: Path, tmp_path: Path) -> None:
    made = RootedFederation(tmp_path / "made")
    carl = made.enroll("carl", "consumer")
    folder = FederationFolder(home, made.keys.fingerprint)
    folder.pin_root(made.store.get("root/1.json"))
    folder.keep_membership(Membership(federation=made.keys.fingerprint, name="carl"))
    folder.write_key("carl", carl.signer)  # type: ignore[arg-type]
    data, work = write_reviews(tmp_path / "reviews.csv", num=8), tmp_path / "work"
    with serve_gateway(open_federation(LocalStore(tmp_path / "made" / "store"))) as gateway:
        refused = refusal("contribute", gateway.address, "--data", data, "--work", work)
        assert isinstance(refused, NotAllowedError)
        assert "carl: is consumer, and Commit is for contributor" in str(refused)
        assert not (work / "base").exists()
        with (
            coldfuse.connect(gateway.address) as federation,
            pytest.raises(NotAllowedError, match="carl: is consumer"),
            federation.round(name="carl"),
        ):
            pytest.fail("this round is not theirs")


@pytest.mark.parametrize("lie", [None, Decision.ADMITTED, Decision.REJECTED])
def test_a_contribution_gets_the_verdict_that_the_aggregator_has_signed(
    home: Path, tmp_path: Path, lie: Decision | None
) -> None:
    made = RootedFederation(tmp_path / "made", rules={"quorum": 1, "deadline_s": 3600.0})
    ada = made.enroll("ada")
    lead(made.opened(), 1)
    folder = FederationFolder(home, made.keys.fingerprint)
    folder.keep_membership(Membership(federation=made.keys.fingerprint, name="ada"))
    folder.write_key("ada", ada.signer)  # type: ignore[arg-type]
    write_model(tmp_path / "mine", finetune(made.model, 5))
    lies = Lies(verdict=lie and ContributionVerdict(contribution="", decision=lie, reason="so it is"))
    with ExitStack() as stack:
        stack.enter_context(lying_gateways(lies))
        gateway = stack.enter_context(serve_gateway(open_federation(made.store)))
        with coldfuse.connect(gateway.address, root=made.keys.fingerprint) as federation:
            federation.fetch(tmp_path / "base")
            sent = federation.contribute(tmp_path / "mine", base=tmp_path / "base", num_examples=10, wait=False)
            assert sent.verdict.decision is Decision.PENDING
            if lie is not None:
                with pytest.raises(SignatureError, match="hands out no signed entry of the journal that says so"):
                    federation.verdict(sent)
                assert lies.told["verdict"]
            lead(made.opened(), 1)  # a gateway gives a verdict out again for half a second
            wait_until(lambda: federation.verdict(sent).decision is Decision.ADMITTED, "the verdict that was signed")


def test_a_federation_without_a_root_is_read_as_ever_with_a_word(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_federation(tmp_path, make_model()).store.url
    assert run("status", store).count("is a federation without a root: nothing that it hands out is signed") == 1
    with coldfuse.connect(store) as federation:
        assert federation.status().latest.number == 0
    assert caplog.text.count("init --adopt") == 1
    assert not home.exists()
