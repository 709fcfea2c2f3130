"""Verifying a federation offline, from a copy of its store or a fetched folder, with nothing but its fingerprint.

    causes          what can be wrong, each with an exit status
    findings        what was found, as values
    inspection      one look at a store: bounded, and noting instead of raising
    signers         the roots: who may sign what, now and then
    membership      the lists of members, and their keys
    rules           the settings, and all that they ever were
    channels        where channels point, and whether one was put back
    releases        the lineage, by what each release's statement says of its parent
    journals        the chain of signed entries of each round
    verdicts        whether a journal agrees with itself, the rules and what was published
    gate            whether what was published has passed its round's gate, and each decision follows from its counts
    scores          whether evaluators have signed these counts
    contributions   what contributors have sent, and who has signed it
    objects         whether all parts are there; on request every byte
    beside          whatever else lies there
    words           members' words on releases
    recompute       fusing a release again, and the first thing that differs (`differences`)
    store, folder   all of it, for a store and for a fetched folder

Nothing here writes, and nothing is believed that was not verified before. The other readers of a store (`registry`)
mend what is damaged as they go; here damage is what is looked for.
"""
