"""Who shares limits, and whose name a certificate vouches for."""

import pytest
from federations import make_delta, make_manifest

from coldfuse.core.names import Identity
from coldfuse.errors import ContributionRejectedError
from coldfuse.transport.callers import caller_of, check_names, names_of

BLOB = make_delta([1]).blob


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::ffff:10.1.2.3%5D:4711", "10.1.2.3"),
        ("ipv6:[2001:db8::1]:4711", "2001:db8::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::/64"),
        ("ipv4:nonsense:4711", "ipv4:nonsense:4711"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
    ],
)
def test_ports_and_neighbours_of_one_network_are_one_caller(peer, caller):
    assert caller_of(peer) == caller


def test_a_name_of_any_script_is_matched_by_its_id():
    names = names_of({"x509_common_name": ["Klinik Köln".encode()], "x509_subject_alternative_name": [b"", b"k.org"]})
    who = Identity.of("Klinik Köln")
    check_names(make_manifest(BLOB, contributor=who.id, display_name=who.display_name), names)
    check_names(make_manifest(BLOB, contributor="k.org"), names)


@pytest.mark.parametrize("names", [[], [""], ["alice"], ["Bob"], ["bob.example.org"], ["b", "ob"]])
def test_nobody_contributes_under_a_name_that_their_certificate_has_not(names):
    with pytest.raises(ContributionRejectedError, match="contribute under a name that the certificate has"):
        check_names(make_manifest(BLOB, contributor="bob"), names)
