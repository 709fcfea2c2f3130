"""What a client asks of gRPC."""

from coldfuse.gateway import PARALLEL
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.retry import stream_deadline_s


class Stub:
    def __init__(self):
        self.timeouts = []

    def ReadObject(self, request, timeout):
        self.timeouts.append(timeout)
        return iter([pb.ReadObjectResponse(chunk=bytes(request.length_bytes))])


def test_a_download_has_the_time_that_it_needs_beside_the_others_on_its_link():
    stub = Stub()
    with GatewayClient("127.0.0.1:1") as client:
        client._stub = stub
        client.read_into(0, "0" * 64, memoryview(bytearray(1 << 20)))
        client.read_into(0, "0" * 64, memoryview(bytearray(1 << 20)), parallel=1)
    assert stub.timeouts == [stream_deadline_s(1 << 20, parallel=PARALLEL), stream_deadline_s(1 << 20)]
    assert stub.timeouts[0] > 3 * stub.timeouts[1] > 0
