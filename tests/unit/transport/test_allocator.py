"""malloc's settings are taken where there are any."""

import platform

from coldfuse.transport.allocator import keep_freed_memory


def test_glibc_takes_the_settings():
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
