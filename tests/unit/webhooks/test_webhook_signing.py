from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from coldfuse.errors import UserInputError
from coldfuse.webhooks.signing import Secrets, read_secrets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_message_is_signed_as_the_specification_says() -> None:
    """The example of the Standard Webhooks libraries: their verifiers accept exactly this."""
    body = b'{"test": 2432232314}'
    headers = read_secrets(SECRET, what="a file").headers("msg_p5jXN8AQM9LWM0D4loKWxJek", body, now_s=1614265330.9)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_while_receivers_change_over_both_secrets_sign() -> None:
    old, new = b"o" * 24, b"n" * 32
    text = f"whsec_{base64.b64encode(new).decode()}\n{base64.b64encode(old).decode()}\n"
    signatures = read_secrets(text, what="x").headers("id", b"body", now_s=5)["webhook-signature"].split(" ")
    wanted = [base64.b64encode(hmac.digest(key, b"id.5.body", hashlib.sha256)).decode() for key in (new, old)]
    assert signatures == [f"v1,{each}" for each in wanted]


@pytest.mark.parametrize(
    "text", ["", "  \n", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%%%%%", "a b c d e", "whsec_" + "QUJD" * 23]
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserInputError) as caught:
        read_secrets(text, what="secret.txt")
    assert "secret.txt" in str(caught.value)
    assert text.removeprefix("whsec_")[:5] not in str(caught.value) or len(text) < 12


def test_a_secret_shows_in_no_words_about_it() -> None:
    assert "MfKQ9r8" not in repr(read_secrets(SECRET, what="x"))
    assert "0000" not in repr(Secrets((b"0000",)))
