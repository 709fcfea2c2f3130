"""A release that others can load from the Hub: the verified folder, its card and its signature, in one commit.

folder    what of a fetched folder is sent, once it is verified
hub       the calls to the Hub, and its errors as ours
push      from one to the other; pushed: the values

A reader of the repository sees one release or another, never half of one: files go up first, and one commit takes them
in, with what the release before had and this one has not taken out. What the Hub has already is not sent again.
"""
