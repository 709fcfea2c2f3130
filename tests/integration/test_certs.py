"""`coldfuse certs`: an authority of one's own, and certificates that every check takes."""

import os
import shutil
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import GATEWAY, Authority
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from federations import make_federation

from coldfuse.cli.certs import certs
from coldfuse.cli.options.certs import CertsOptions
from coldfuse.errors import UserInputError
from coldfuse.storage import LocalStore
from coldfuse.trust.certs import AUTHORITY_DAYS, Holder, make_authority
from coldfuse.trust.certs_folder import give, open_authority


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "certs"


def make(folder, *hosts, **options):
    certs(CertsOptions(folder=folder, host=list(hosts), **options))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def handshake(folder, *, server="gateway", client=None, host="localhost"):
    """Shake hands as strictly as Python 3.13 does by itself; raises what the side that refuses raises."""
    here, there = ssl.create_default_context(cafile=folder / "ca.pem"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(folder / f"{server}.pem", folder / f"{server}.key")
    if client is not None:
        here.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
        there.load_verify_locations(folder / "ca.pem")
        there.verify_mode = ssl.CERT_REQUIRED
    for context in (here, there):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        here.wrap_bio(to_client, to_server, server_hostname=host),
        there.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(end.version() == "TLSv1.3" for end in ends)


@pytest.mark.parametrize("host", ["localhost", "gw.example.org", "127.0.0.1", "::1", "any.example.net"])
def test_gateways_and_clients_pass_the_strict_check_of_python(folder, host):
    make(folder, "localhost", "gw.example.org", "127.0.0.1", "::1", "*.example.net", client=["ada"])
    handshake(folder, client="client-ada", host=host)


def test_a_certificate_is_good_for_its_own_hosts_and_its_own_purpose_alone(folder):
    make(folder, "localhost", client=["ada"])
    for wrong in ({"host": "example.org"}, {"server": "client-ada"}, {"client": "gateway"}):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"Hostname mismatch|unsuitable certificate purpose"):
            handshake(folder, **wrong)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
@pytest.mark.parametrize(("stem", "purpose"), [("gateway", "sslserver"), ("client-ada", "sslclient")])
def test_openssl_verifies_strictly(folder, stem, purpose):
    make(folder, "localhost", client=["ada"])
    ca, cert = folder / "ca.pem", folder / f"{stem}.pem"
    verify = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", ca, cert]
    result = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout.strip()) == (0, f"{cert}: OK")


def test_keys_are_for_their_owner_alone_and_it_is_said_who_gets_what(folder, capsys):
    before = os.umask(0)
    try:
        make(folder, "localhost", client=["Klinik Köln"])
    finally:
        os.umask(before)
    modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes[".key"] == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    said = capsys.readouterr().out
    for part in ("ca.key goes to nobody", "everybody: ca.pem", "gateway localhost: gateway.pem", "klinik-koln-"):
        assert part in said
    assert "PRIVATE" not in said


def test_a_second_run_changes_nothing_and_renewal_keeps_the_authority(folder):
    make(folder, "localhost", client=["ada"])
    first = contents(folder)
    make(folder, "localhost", client=["ada"])
    make(folder)
    assert contents(folder) == first
    make(folder, renew=True)
    second = contents(folder)
    assert {name for name in first if first[name] == second[name]} == {"ca.pem", "ca.key"}
    handshake(folder, client="client-ada")


@pytest.mark.parametrize(("days_later", "is_renewed"), [(0, False), (59, False), (61, True), (200, True)])
def test_what_has_less_than_a_third_of_its_life_left_is_renewed(folder, days_later, is_renewed):
    make(folder, "localhost", days=90)
    now = datetime.now(UTC) + timedelta(days=days_later)
    authority, _ = open_authority(folder, now)
    given = give(folder, authority, Holder(name="gateway", hosts=("localhost",)), now=now, days=90)
    assert (given.why is not None) is is_renewed
    assert given.until > now


def test_other_names_another_authority_and_a_lost_or_foreign_key_are_reasons_for_a_new_one(folder, tmp_path, capsys):
    make(folder, "localhost")
    other = Authority(tmp_path / "other")
    foreign = {".pem": other.folder / "gateway.pem", ".key": other.folder / "gateway.key"}
    reasons = []
    for damage in ("names", "key", "both", "lost"):
        if damage == "lost":
            (folder / "gateway.key").unlink()
        for suffix in {"key": [".key"], "both": [".pem", ".key"]}.get(damage, []):
            shutil.copy(foreign[suffix], folder / f"gateway{suffix}")
        capsys.readouterr()
        make(folder, *GATEWAY.hosts)
        reasons.append(capsys.readouterr().out.rpartition("made (")[2].partition(")")[0])
        handshake(folder, host="127.0.0.1")
    assert reasons == ["other names", "the key was not its own", "it was of another authority", "new"]


def test_a_run_that_was_killed_between_key_and_certificate_is_finished_by_the_next(folder):
    make(folder, "localhost")
    key = (folder / "ca.key").read_bytes()
    (folder / "ca.pem").unlink()
    (folder / "ca.key.part").write_bytes(b"half")
    make(folder)
    assert (folder / "ca.key").read_bytes() == key
    handshake(folder)  # what was given before is good


def test_runs_at_the_same_time_make_one_authority(folder):
    threads = [threading.Thread(target=make, args=(folder, f"gw{n}"), kwargs={"name": f"gw{n}"}) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for n in range(4):
        handshake(folder, server=f"gw{n}", host=f"gw{n}")


def test_no_certificate_outlives_its_authority_and_its_end_is_said_in_time(folder, capsys):
    now = datetime.now(UTC)
    write_authority(folder, made=now - timedelta(days=AUTHORITY_DAYS - 10))
    make(folder, "localhost")
    assert "the authority itself ends on" in capsys.readouterr().err
    authority, given = (
        x509.load_pem_x509_certificate((folder / name).read_bytes()).not_valid_after_utc
        for name in ("ca.pem", "gateway.pem")
    )
    assert given == authority < now + timedelta(days=11)


@pytest.mark.parametrize(
    ("age_days", "sentence"), [(AUTHORITY_DAYS + 1, r"expired on .*another authority in a new folder"), (-1, "clock")]
)
def test_an_authority_gives_nothing_out_of_its_time(folder, age_days, sentence):
    write_authority(folder, made=datetime.now(UTC) - timedelta(days=age_days))
    with pytest.raises(UserInputError, match=sentence):
        make(folder, "localhost")


def write_authority(folder, *, made):
    authority = make_authority(made)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    folder.mkdir()
    (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(pem))
    (folder / "ca.key").write_bytes(authority.key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (folder / "ca.key").chmod(0o600)


def damage_point(path):
    """Write a certificate that can be read, but for its key, which is no point of the curve."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    point = certificate.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    der = certificate.public_bytes(serialization.Encoding.DER).replace(point, point[:-1] + bytes([point[-1] ^ 1]))
    path.write_text(ssl.DER_cert_to_PEM_cert(der))


def lock(path):
    key = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret")))


def make_ed25519(path):
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "ca.key").chmod(0o640), r"ca\.key: others than its owner may read it; make another authority"),
        (lambda f: (f / "gateway.key").chmod(0o604), r"gateway\.key: others than its owner may read it; remove it"),
        (lambda f: (f / "ca.key").unlink(), r"ca\.key: is missing"),
        (lambda f: shutil.copy(f / "gateway.key", f / "ca.key"), "is not the key of the certificate beside it"),
        (lambda f: [shutil.copy(f / f"gateway.{s}", f / f"ca.{s}") for s in ("pem", "key")], "that is no authority's"),
        (lambda f: (f / "ca.pem").write_text("-----BEGIN"), r"ca\.pem: expected a certificate in PEM form"),
        (lambda f: damage_point(f / "ca.pem"), r"ca\.pem: expected a certificate in PEM form"),
        (lambda f: (f / "ca.key").write_bytes(b""), r"ca\.key: expected a private key in PEM form"),
        (lambda f: lock(f / "ca.key"), "passphrase"),
        (lambda f: make_ed25519(f / "ca.key"), "expected an ECDSA or RSA key"),
        (lambda f: (f / "gateway.pem").write_bytes(b"\x00" * 99), r"gateway\.pem: expected a certificate in PEM form"),
        (lambda f: f.chmod(0o777), "anybody may put files into it"),
    ],
)
def test_an_authority_that_cannot_be_used_is_named_and_nothing_is_made(folder, damage, sentence):
    make(folder, "localhost")
    damage(folder)
    before = contents(folder)
    with pytest.raises(UserInputError, match=sentence) as caught:
        make(folder, "localhost", renew=True)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "holds no certificates to renew; name"),
        ({"host": ["gw:7700"]}, "has a port"),
        ({"host": ["gw"], "name": "ca"}, "neither ca"),
        ({"host": ["gw"], "name": "../gw"}, "names the gateway's files"),
        ({"host": ["gw"], "name": "client-gw"}, "names the gateway's files"),
        ({"client": ["../ada"]}, "'/'"),
        ({"client": [""]}, "empty"),
    ],
)
def test_bad_words_are_refused_before_anything_is_made(folder, options, sentence):
    with pytest.raises(UserInputError, match=sentence):
        certs(CertsOptions(folder=folder, **options))
    assert not folder.exists()


def test_a_folder_that_is_a_file_is_said_to_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserInputError, match="file: cannot be written"):
        make(tmp_path / "file", "localhost")


@pytest.mark.parametrize("place", ["store", "store/certs/deep"])
def test_no_key_is_put_into_a_store(tmp_path, place):
    make_federation(LocalStore(tmp_path / "store"))
    with pytest.raises(UserInputError, match="where no private key may be"):
        make(tmp_path / place, "localhost")
    with pytest.raises(UserInputError, match="expected a folder of this machine"):
        make(Path("s3://bucket/certs"), "localhost")
    assert not [*tmp_path.rglob("*.key")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes files of others")
def test_a_key_that_is_renewed_by_root_stays_its_owners(folder):
    make(folder, "localhost")
    os.chown(folder / "gateway.key", 12345, 12345)
    make(folder, renew=True)
    state = (folder / "gateway.key").stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (12345, 12345, 0o600)


def test_two_authorities_have_two_names(tmp_path):
    subjects = {
        x509.load_pem_x509_certificate(Authority(tmp_path / name).ca.read_bytes()).subject for name in ("one", "two")
    }
    assert len(subjects) == 2
