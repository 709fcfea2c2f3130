"""The store's layout: federation, objects, rounds with their journal, releases, channels and the aggregator's lease.

    federation.json                         settings, changed by compare and swap
    settings/<00001>.json                   earlier changes of the settings
    objects/<sha256>                        immutable bytes: parts of models and deltas, manifests
    rounds/<00012>/head                     the leader's last journal entry, changed by compare and swap
    rounds/<00012>/journal/<seq>-<event>    append-only
    releases/<00012>.json                   release manifests, immutable
    channels/latest                         pointer
    leases/aggregator                       who leads
    probes/<sha256>                         that this very store has kept its promises, so that no start asks again

Objects are written first and never change; then one small pointer moves by compare and swap. A crash between the two
leaves objects that nobody points to, and the state as it was. The current round is not stored at all: it follows from
the latest release.
"""
