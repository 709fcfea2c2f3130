"""Finding what is damaged in a federation's store, and bringing back what can be.

    findings    what was found, as values
    inventory   what a store should hold, and what each object is needed by
    named       pointers, entries, settings: what has a name of its own
    examine     every object read once, several at a time
    sources     where sound bytes may come from: another store, a folder with the model
    repair      bringing them back

A service may run meanwhile: everything is written by compare and swap, or under the SHA-256 of its bytes.
"""
