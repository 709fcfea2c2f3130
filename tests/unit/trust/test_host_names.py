"""What a certificate can be made out to."""

import pytest

from coldfuse.errors import UserInputError
from coldfuse.trust.host_names import host_of


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("gateway", "gateway"),
        ("GW.Example.org", "gw.example.org"),
        ("example.org.", "example.org"),
        ("my_gateway.internal", "my_gateway.internal"),
        ("*.example.org", "*.example.org"),
        ("xn--kln-sna.example", "xn--kln-sna.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
    ],
)
def test_a_host_is_taken_in_the_form_that_certificates_hold(text, host):
    assert host_of(text) == host


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        (".", "empty"),
        ("gateway:7700", "port"),
        ("127.0.0.1:7700", "port"),
        ("[::1]:7700", "port"),
        ("https://gateway", "URL"),
        ("gateway/path", "URL"),
        ("0.0.0.0", "nobody can be called"),
        ("::", "nobody can be called"),
        ("224.0.0.1", "nobody can be called"),
        ("fe80::1%eth0", "zone"),
        ("10.0.0.256", "no IP address"),
        ("1.2.3", "no IP address"),
        ("*", "whole first word"),
        ("*.org", "whole first word"),
        ("gw*.example.org", "whole first word"),
        ("gw.*.example.org", "whole first word"),
        ("*.*.example.org", "whole first word"),
        ("*.0.0.1", "no IP address"),
        ("köln.example", "xn--kln-sna.example"),
        ("two words", "no name of a host"),
        ("a..b", "no name of a host"),
        ("-a.example", "no name of a host"),
        ("a" * 64, "no name of a host"),
        (f"{'a.' * 130}b", "at most 253"),
        ("a\nb", "no name of a host"),
        ("a\x00b", "no name of a host"),
        (f"{'ä' * 300}.example", "no name of a host"),
    ],
)
def test_what_nobody_calls_a_gateway_by_is_refused_in_one_line(text, reason):
    with pytest.raises(UserInputError, match=reason) as caught:
        host_of(text)
    assert "\n" not in str(caught.value)
