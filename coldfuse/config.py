"""The environment, read and set in one place.

coldfuse needs no environment variable. Credentials and addresses of S3 come from the AWS_* variables and profiles,
which boto3 reads itself.
"""

from __future__ import annotations

import os

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_AUTH_MODE": "token",  # Ray's own default since 2.60, said aloud: without it Ray warns
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind to loopback; else the processes of a local Ray listen everywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, said aloud: without it Ray warns
}


def prepare_ray() -> None:
    """Set what Ray reads when it is imported, unless the user has set it."""
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)


def prepare_local_models() -> None:
    """Keep transformers from asking the network about models that are read from a folder."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
