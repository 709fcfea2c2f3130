"""Who is who, and proof of it.

Everybody knows a federation by the SHA-256 of its first root, and follows it by the rules of TUF (specification 1.0.34)
from there. The rules are written here, and python-tuf is their judge in the tests, on its own cases and on hundreds of
random histories. For TUF's files do not fit: what a federation swaps is one pointer, by compare and swap, where TUF has
three that would lie beside it; its members are no targets; and what others sign, contributions and verdicts, has no
place there. A channel is timestamp and snapshot in one: it has a version and an expiry, and names the versions of root
and members.

- `root`, `members`: what is signed; `view`: both as one reader sees them; `reading`: never more than can be meant.
- `channel`: where a channel points, and until when; `seen`: what was seen, below which nothing is believed.
- `envelope`, `keys`: signatures over stored bytes; `identity`, `home`: as whom, and where private keys lie.
- `requests`: what a signed request says, for one use; `rights`: who may ask what, in one table.
- `model_signature`: the signature in a model's folder, which other tools verify, too.
- `provenance`: what a release was made from, in a form that other tools read; `lineage`: who has signed the history.
- `check`: a member's word on a release, and the lot that says who looks at which; `recomputed`: what all have said.
- `score`: an evaluator's counts on a candidate.
- `signed_folder`: whether a folder is what its signature says.
- `tls`: certificate and key files, read and checked before anything is sent; `following`: replaced while they are used.
- `certs`: an authority and what it gives; `certs_folder`: where both lie; `host_names`: what a gateway is called by.
"""
