"""One contributor's node.

settings    what it contributes, and as whom
node        its life: fetch, train, send, wait
making      from a base to a finished delta
events      what it says meanwhile
outliving   a gateway that is away ends no node
mending     what to do where bytes have changed, on the disk or on their way
manifest    what it says of itself beside its delta
state       its folder, in which a node that was killed finds what is done
"""
