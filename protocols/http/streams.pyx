"""The block in which a response is streamed, and what the response has of its connection.

Owns: when the connection of a streamed response is given back.  May not touch: the response's
bytes (``protocols.http.body_stream``), who runs the loop (``protocols.http.sync_client``).
Invariant: a connection is given back once: when its block ends or its response is closed, and
at the latest when nobody has the response any more.

A signal handler may raise wherever Python code is entered, and so on entry to an ``__exit__``
that is written in Python, where nothing stands yet that would give the connection back.  These
are entered without that, and what they do first is done whole.
"""

cimport cython

from reactor.core cimport Reactor
from reactor.manager.leases cimport Leases

from protocols.http.calls cimport let_go
from protocols.http.connection cimport ClientConnection
from protocols.http.response cimport Response


@cython.final
cdef class Nothing:
    """What can be awaited and is there."""

    def __await__(self):
        return iter(())


cdef Nothing NOTHING = Nothing()


@cython.final
@cython.no_gc_clear                     # __dealloc__ gives the connection back
cdef class Hold:
    """The connection of a streamed response, until it is given back.

    Args:
        manager: whose it is.
        connection: what is held.
    """

    def __init__(self, Leases manager not None, ClientConnection connection not None):
        self.manager = manager
        self.connection = connection

    def __dealloc__(self):
        self.end_soon()

    def end(self):
        """Give the connection back, on the loop's thread; a second call does nothing."""
        cdef ClientConnection connection = self.connection
        if connection is not None:
            self.manager.check_thread()
            self.connection = None
            let_go(self.manager, connection)

    def end_soon(self):
        """Give the connection back in the loop's next pass; from any thread.

        Return whether there is anything to be given back.
        """
        cdef ClientConnection connection = self.connection
        cdef Reactor loop
        if connection is not None:
            loop = self.manager._loop       # which may be emptied in a ring of garbage
            if loop is not None and not loop._closed:
                loop.call_soon_threadsafe(give_back, self.manager, connection)
            self.connection = None
        return connection is not None


def give_back(Leases manager not None, ClientConnection connection not None):
    """Give a connection back whose response was dropped or closed."""
    if manager.connections is not None:     # emptied meanwhile, if both were garbage
        let_go(manager, connection)


cdef Response hold(Leases manager, tuple answer):
    """Return the response, which holds its connection from now on."""
    cdef Response response = answer[1]
    response.hold = Hold(manager, answer[0])
    return response


def held(Leases manager not None, tuple answer not None):
    """Return the response of (connection, response), which holds its connection from now on."""
    return hold(manager, answer)


cdef class StreamBlock:
    """``async with client.stream(...) as response``.

    Args:
        manager: whose connections these are.
        start: called when the block begins, for a coroutine that gives the connection and the
            response, which is there when its head is.
    """

    def __init__(self, Leases manager not None, start not None):
        self.manager = manager
        self.start = start

    def __aenter__(self):
        """Send the request."""
        start = self.start
        if start is None:
            raise RuntimeError("a stream's block begins once")
        self.start = None
        return self.enter(start)

    async def enter(self, start):
        """Begin with what *start* gives; return the response."""
        self.response = hold(self.manager, await start())
        return self.response

    def __aexit__(self, kind, error, traceback):
        """Give the connection back, or up if the body was not read to its end."""
        if self.response is not None:
            self.response.hold.end()
        return NOTHING


cdef class BlockingStreamBlock:
    """``with client.stream(...) as response``.

    Args:
        client: the ``Client``.
        block: of its asynchronous client.
    """

    def __init__(self, client, StreamBlock block not None):
        self.client = client
        self.block = block

    def __enter__(self):
        """Send the request."""
        if self.block.start is None:
            raise RuntimeError("a stream's block begins once")
        try:
            self.client._run(self.block.__aenter__)
            self.block.response.read_by(self.client._next_piece)
            self.block.response.catch_up = self.client._catch_up
        except BaseException:
            if self.block.response is not None:
                self.block.response.hold.end_soon()
            raise
        return self.block.response

    def __exit__(self, kind, error, traceback):
        """Give the connection back, or up if the body was not read to its end."""
        if self.block.response is not None:
            self.block.response.close()
        return False
