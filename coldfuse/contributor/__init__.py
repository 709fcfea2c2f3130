"""One contributor's node.

node        its life: fetch, train, send, wait
events      what it says meanwhile
outliving   a gateway that is away ends no node
manifest    what it says of itself beside its delta
state       its folder, in which a node that was killed finds what is done
"""
