"""Hostile bytes: everything that reads bytes from elsewhere, and programs that try to break it.

    readers     the table: each reader as a function of bytes, with valid samples
    stored      readers of a federation's store, a node's and a consumer's folder
    networked   readers behind a socket: a gateway, its client, and S3's answers
    mutations   from valid samples to bytes that get far
    running     one input, and what may come of it: a value or a declared error, in bounded time
    __main__    `python -m fuzz --seconds 60 [READER …]` in tests/: minutes by hand, guided by coverage (atheris)

`test_hostile_bytes.py` is the short form for every day.
"""
