"""What tests of code that uses the clients need: answers without a network.

``MockTransport`` answers each request with what a function of the test's returns;
``Recorder`` keeps real exchanges in a file and answers from it ever after::

    def answer(request):
        assert request.method == "GET"
        return Reply(200, json={"path": request.url.path})

    with Client(transport=MockTransport(answer)) as client:
        assert client.get("https://example.org/a").json() == {"path": "/a"}

Both stand below the client: redirects, cookies, authentication, retries, limits, timeouts,
decoding, streaming and its back-pressure are those of production.
"""

from protocols.http.testing.mock import Answer, Handler, MockTransport, ReceivedRequest, Reply
from protocols.http.testing.recorder import NotRecordedError, Recorder

__all__ = [
    "Answer",
    "Handler",
    "MockTransport",
    "NotRecordedError",
    "ReceivedRequest",
    "Recorder",
    "Reply",
]
