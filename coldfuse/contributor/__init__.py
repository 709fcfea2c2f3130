"""One contributor's node.

settings    what it contributes, and as whom
sender      what every contributor does: fetch a base, send what was made of it, wait for the outcome
node        the life of one that trains
signing     a contribution is signed as it is sent, by its member's newest key
making      from a base to a finished delta
events      what it says meanwhile
outliving   a gateway that is away ends no node
mending     what to do where bytes have changed, on the disk or on their way
manifest    what it says of itself beside its delta
state       its folder, in which a node that was killed finds what is done; work: what it remembers of one base
"""
