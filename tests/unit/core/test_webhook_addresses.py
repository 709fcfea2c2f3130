from __future__ import annotations

import pytest

from coldfuse.core.federation import FederationSettings
from coldfuse.core.webhooks import check_url


@pytest.mark.parametrize("url", ["https://example.org/hooks/1?a=b", "http://[::1]:8080/x", "https://EXAMPLE.org"])
def test_addresses_that_can_be_told_something(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "ftp://example.org", "file:///etc/passwd", "https://", "https:///x", "https://me:pw@example.org",
        "https://me@example.org", "https://example.org/#x", "https://example.org:99999/", "https://exa mple.org",
        "https://example.org/\r\nHost: other", "https://exämple.org/", "https://example.org/" + "x" * 1000,
    ],
)  # fmt: skip
def test_what_is_no_address_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|port|Port|URL|Invalid"):
        check_url(url)


def test_settings_without_them_have_no_fields_of_them() -> None:
    settings = FederationSettings(
        federation="0" * 64, name="tiny", rules={}, method="mean", created_at_s=1.0, base="x", release_zero="0" * 64
    )  # type: ignore[arg-type]
    assert not {"soak", "webhooks"} & settings.model_dump().keys()
