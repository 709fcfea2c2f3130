"""The wire between a gateway and everybody else: gRPC.

    connect     from a store or an address to a `Gateway`
    address     host:port, and which hosts are this machine
    peer        a gateway as its client sees it: how it is reached, and through which proxy
    client      `GatewayClient`, a `Gateway` on another machine
    server      starting and stopping a gateway that listens
    servicer    the shell: asyncio streams around a `StoreGateway`
    admission   the same care for health and reflection
    askers      who asks: a member by a signed request, or a stranger
    roll        who is a member; `holders`: whose a key is; `budgets`: what strangers may make a gateway look up
    signing     signing requests, at their sender's end
    calls       one call: bytes in, bytes out, nothing without a turn
    turns       who may hold memory now; `shares`: what is fair
    rooms       what all calls share
    limits      what fits into the gateway's memory
    callers     who shares limits, and whose name a certificate vouches for
    connections silent connections make room; `traffic`: which bytes belong to a call
    wire        protobuf to values and back, for both ends
    status      errors to status codes and back, in one table
    channel     options and credentials of both ends; `renewing`: a client's follow their files
    handshake   what the two ends disagree on, where gRPC knows only of a closed socket
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

Why nothing is read without a turn: a gateway's memory is a setting, whatever its callers do. gRPC lets in what
somebody reads, so a turn is taken before each reading, and flow control makes the senders wait. Limits of a caller are
shares of what is scarce at the moment, so that many nodes behind one address lose nothing while there is room.

Why a request is signed, and no session opened: any gateway of a federation answers any call, and none has to remember
anything that another one needs. What a request is signed for stands in `trust.requests`; who may ask what, in
`trust.rights`, which `calls` asks for every call of every service.

Limits: without a root, gateways do not know their callers. Shares go by address then, and whoever has many addresses
has many shares; where strangers can reach the port, ask for client certificates. What a gateway answers is signed only
where what it passes on is: clients verify that themselves. A proxy can pass a signed request on, once, and not change
it.
gRPC keeps headers that never end, at ten times their
length; a connection that brings them is closed within a fraction of a second, and what came until then is in no budget.
"""

from coldfuse.config import prepare_grpc

prepare_grpc()  # gRPC looks when it is imported, which is after this and nowhere else
