"""One contributor's node, from private data to a delta.

`data` reads examples, `training` fine-tunes the base on them (`model`, `schedule`, `checkpoint`), `delta` writes what
changed, and `node` is the loop: fetch, train, send, wait. `state` is the folder in which a node that was killed finds
what it had done.
"""
