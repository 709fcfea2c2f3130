"""What a client asks of gRPC."""

from coldfuse.gateway import PARALLEL
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.retry import stream_deadline_s


class Channel:
    def __init__(self):
        self.timeouts = []

    def unary_stream(self, _path, _serialize, _read):
        def call(body, timeout, metadata):
            self.timeouts.append(timeout)
            assert dict(metadata).keys() == {"coldfuse-sender"}
            return iter([pb.ReadObjectResponse(chunk=bytes(pb.ReadObjectRequest.FromString(body).length_bytes))])

        return call

    def close(self):
        pass


def test_a_download_has_the_time_that_it_needs_beside_the_others_on_its_link():
    channel = Channel()
    with GatewayClient("127.0.0.1:1") as client:
        client._channel = channel
        client.read_into(0, "0" * 64, memoryview(bytearray(1 << 20)))
        client.read_into(0, "0" * 64, memoryview(bytearray(1 << 20)), parallel=1)
    assert channel.timeouts == [stream_deadline_s(1 << 20, parallel=PARALLEL), stream_deadline_s(1 << 20)]
    assert channel.timeouts[0] > 3 * channel.timeouts[1] > 0
