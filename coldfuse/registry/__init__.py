"""The store's layout: federation, objects, rounds with their journal, releases, channels and the aggregator's lease.

    federation.json                         settings, changed by compare and swap
    settings/<00001>.json                   earlier changes of the settings
    settings/copy.json                      the settings once more, for the day when the first are damaged
    objects/<sha256>                        immutable bytes: parts of models and deltas, manifests
    checks/<sha256>                         what ranges of a file's parts are verified by, as they are read
    damaged/<sha256>                        objects that were proved wrong, out of the way of sound ones
    rounds/<00012>/head                     the leader's last journal entry, changed by compare and swap
    rounds/<00012>/journal/<seq>-<event>    append-only
    releases/<00012>.json                   release manifests, immutable
    releases/<00012>.sig                    who has signed what the release was made from (with a root)
    releases/<00012>.model.sig              who has signed its files, for tools of others (with a root)
    channels/latest                         pointer; channels/candidate to what waits at the gate
    leases/aggregator                       who leads
    tombstones/<sha256>.json                what was erased, as salted digests: nobody takes it for lost
    collected/<sha256>.json                 of which releases the retention rules have removed files or contributions
    probes/<sha256>                         that this very store has kept its promises, so that no start asks again

and, where the federation has a root (`trust`), beside these

    root/<1>.json                           whose keys may sign what, version after version
    members/<1>.json                        who may take part, as what, version after version
    members/keys/<folder>/<0>.json          the keys of one member, each signed by the one before it
    words/<12>/<member>.json                a member's word on a release that it has computed again
    scores/<00012>/<sha256>/<member>.json   an evaluator's counts on a candidate, by its manifest
    quotas/<member>/<seconds>-<sha256>      contributions of the last day, of members who may send only so many

There federation.json, the channels, and heads and leader's entries of rounds are envelopes (`signed`, `pointers`,
`chain`): whoever can write to the store can stop a federation, and can make nobody believe what its keys have not
signed. Received entries are gateways', and carry their contributor's signature. The quarantine, the history of the
settings but for its last change, and leases are not signed: they keep members out for a while (revoking is for good),
or are for people.

Objects are written first and never change; then one small pointer moves by compare and swap. A crash between the two
leaves objects that nobody points to, and the state as it was. What has a name of its own carries a seal, and is made
anew from the rest where it is damaged (`recovery`, `releases`, `settings`). The current round is not stored at all: it
follows from the latest release.
"""
