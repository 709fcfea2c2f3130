"""The gateway and its client, over gRPC.

    address     host:port, and which hosts are this machine
    channel     options and credentials of both ends
    status      errors to status codes and back, in one table
    shared      one read for all who ask at the same time
    rounds      where the federation stands, and what that means for people
    commit      taking a contribution: the checks, and the race with the round's end
    upload      one part on its way into the store
    gateway     everything that the gateway does, as plain functions on a federation; knows no gRPC
    servicer    the shell: asyncio streams around the gateway's functions
    server      starting and stopping it
    allocator   malloc, set for streams
    client      the other end
    sender      what an upload reads and sends, several parts at a time
    frames      an upload's chunks on the wire, with few copies
    patience    deadlines, retries, and calling off
    answers     what a gateway says, as values
    pb/         generated from `protos/`

Why asyncio at the server: an upload over a slow link lasts for hours. It must not hold a thread, or a few dozen slow
contributors would keep everybody else from asking for the status. What blocks (the store) runs in a bounded pool, one
chunk at a time, so memory does not grow with the size of a part.

Why the digest comes first: a stream that was cut off ends at the server like one that was finished. Only the declared
length and digest tell them apart, so an object appears when both match and not at all otherwise.

Limits: gateways do not know their callers yet; where strangers can reach the port, ask for client certificates.
"""
