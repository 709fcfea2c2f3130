"""One contributor's node.

node    its life: fetch, train, send, wait
state   its folder, in which a node that was killed finds what is done
"""
