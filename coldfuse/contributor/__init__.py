"""One contributor's node: fetch, train, send, wait (`node`).

`delta` writes what training changed; `state` is the folder in which a node that was killed finds what it had done.
"""
