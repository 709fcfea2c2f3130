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
    channels/latest                         pointer
    leases/aggregator                       who leads
    probes/<sha256>                         that this very store has kept its promises, so that no start asks again

Objects are written first and never change; then one small pointer moves by compare and swap. A crash between the two
leaves objects that nobody points to, and the state as it was. What has a name of its own carries a seal, and is made
anew from the rest where it is damaged (`recovery`, `releases`, `settings`). The current round is not stored at all: it
follows from the latest release.
"""
