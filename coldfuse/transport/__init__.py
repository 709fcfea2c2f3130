"""The wire between a gateway and everybody else: gRPC.

    connect     from a store or an address to a `Gateway`
    address     host:port, and which hosts are this machine
    peer        a gateway as its client sees it: how it is reached, and through which proxy
    client      `GatewayClient`, a `Gateway` on another machine
    server      starting and stopping a gateway that listens
    servicer    the shell: asyncio streams around a `StoreGateway`
    wire        protobuf to values and back, for both ends
    status      errors to status codes and back, in one table
    channel     options and credentials of both ends
    sender      sending parts, each until nothing moves any more
    frames      an upload's chunks on the wire, with few copies
    retry       deadlines, what is tried again and for how long, and calling off
    allocator   malloc, set for streams
    pb/         generated from `protos/`

What a gateway does stands in `coldfuse.gateway`, which knows no wire.

Why asyncio at the server: an upload over a slow link lasts for hours. It must not hold a thread, or a few dozen slow
contributors would keep everybody else from asking for the status. What blocks (the store) runs in a bounded pool, one
chunk at a time, so memory does not grow with the size of a part.

Why the digest comes first: a stream that was cut off ends at the server like one that was finished. Only the declared
length and digest tell them apart, so an object appears when both match and not at all otherwise.

Limits: gateways do not know their callers yet; where strangers can reach the port, ask for client certificates.
"""

from coldfuse.config import prepare_grpc

prepare_grpc()  # gRPC looks when it is imported, which is after this and nowhere else
