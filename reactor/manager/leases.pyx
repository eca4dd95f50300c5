"""What is called for each lease: take an idle connection, give it back.

Owns: the way from a protocol to its connection.  May not touch: anything that waits or opens
(``reactor.manager.manager``, which derives from ``Leases``).
Invariant: a connection is in ``connections`` from opening until it is lost and given back.
"""

cimport cython
from cpython.long cimport PyLong_AsUnsignedLong, PyLong_FromVoidPtr
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF
from libc.math cimport isnan
from libc.stdint cimport int64_t
from libc.string cimport memset

from reactor.core cimport Reactor, nanoseconds
from reactor.manager.histogram cimport Histogram
from reactor.manager.policy cimport (
    EndpointPool, Member, PoolPolicy,
)
from reactor.protocol cimport Protocol
from reactor.timers cimport Timer
from reactor.transports.transport cimport Transport


from reactor.errors import EndpointTimeoutError
from reactor.limits import TRUSTED_NS
from reactor.manager.endpoint import Endpoint, as_endpoint
from reactor.manager.policy import Step
from reactor.manager.sight import PoolEvent

cdef extern from "Python.h":
    PyObject *look_up "PyDict_GetItemWithError"(object mapping, object key) except? NULL
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    ctypedef PySendResult (*sendfunc)(PyObject *, PyObject *, PyObject **) noexcept
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    ctypedef PyObject *(*iternextfunc)(PyObject *) noexcept
    ctypedef struct AwaitableType "PyTypeObject":
        PyAsyncMethods *tp_as_async
        iternextfunc tp_iternext
    PyObject *call_one "PyObject_CallOneArg"(PyObject *function, PyObject *argument) noexcept
    void set_raised "PyErr_SetObject"(PyObject *kind, PyObject *error) noexcept
    PySendResult PyIter_Send(PyObject *coroutine, PyObject *value, PyObject **result) noexcept

# A function that returns an object, as C sees it: NULL with the exception set.
ctypedef PyObject *(*returns_new)(PyObject *) noexcept

cdef object ENDPOINT = Endpoint
cdef object STEP_ABORT = Step.ABORT
cdef object STEP_OPEN = Step.OPEN
cdef int64_t TRUST_NS = TRUSTED_NS


cdef int64_t limit_of(object deadline) except -1:
    """A deadline as nanoseconds on the loop's clock, 0 for none."""
    if deadline is None:
        return 0
    if isnan(deadline):
        raise ValueError("a deadline cannot be NaN")
    return max(<int64_t>1, nanoseconds(deadline))


@cython.final
cdef class Connection(Member):
    """One connection, from opening until it is lost and given back.

    Attributes:
        transport, protocol: its two ends in this process.
        opened_ns: when it was opened, on the loop's clock.
        uses: how often it was leased.
        reason: why it is being closed, or will be once nobody has it; ``None`` while it is good.
    """

    def __init__(self, Leases manager not None, Transport transport not None, protocol,
                 int max_leases, int64_t uses):
        self.manager = manager
        self.transport = transport
        self.protocol = protocol
        self.max_leases = max_leases
        self.opened_ns = manager._loop.now_ns()
        self.uses = uses

    def __call__(self, transport):
        """The transport's call-back: it is gone."""
        self.manager._lost(self)


@cython.final
@cython.freelist(64)
@cython.no_gc_clear                     # __dealloc__ leaves the queue
cdef class Acquisition:
    """The coroutine of ``acquire``: it takes an idle connection, waits, or goes the long way.

    Nothing happens before it is awaited, and what opens is a coroutine of the manager.
    Made by hand since a generated one costs three objects for each lease.
    """

    def __dealloc__(self):
        if self.waiter is not None:
            self.waiter.drop()

    @property
    def __name__(self):
        return "acquire"

    @property
    def __qualname__(self):
        return "ConnectionManager.acquire"

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    cdef object take(self):
        """Go on: return the protocol, or ``None`` where it waits or takes the long way."""
        cdef object protocol
        cdef Waiter waiter = self.waiter
        if waiter is None:
            self.begin()
            if not self.fresh:
                protocol = self.manager.take_one(self.endpoint)
                if protocol is not None:
                    return protocol
            self.waiter = self.manager.queue(self.endpoint, self.deadline_ns, self.fresh)
            if self.waiter is not None:
                return None
        elif not waiter.has_ended():    # woken by something else
            return None
        else:
            self.waiter = None
            waiter.check()
            if waiter.is_good():
                return waiter.lend()
        self.inner = self.manager._acquire(self.factory, self.endpoint, self.deadline, self.fresh,
                                           waiter)
        return None

    cdef int begin(self) except -1:
        if self.is_begun:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.is_begun = True
        return 0

    def send(self, value):
        """Go on; ``StopIteration`` carries the protocol."""
        cdef object protocol
        if self.inner is None:
            protocol = self.take()
            if protocol is not None:
                raise StopIteration(protocol)
            if self.waiter is not None:
                return self.waiter.awaited()
            value = None
        return self.inner.send(value)

    def throw(self, kind, value=None, traceback=None):
        """Go on by raising an exception where it waits."""
        if self.inner is not None:
            return self.inner.throw(kind) if value is None else self.inner.throw(kind, value)
        if self.waiter is None:
            self.begin()
        else:
            self.close()
        raise kind if value is None else value

    def close(self):
        """End it where it waits."""
        cdef Waiter waiter = self.waiter
        self.is_begun = True
        if self.inner is not None:
            self.inner.close()
        elif waiter is not None:
            self.waiter = None
            waiter.give_up()


cdef object begun(PyObject *acquisition):
    return (<Acquisition>acquisition).take()


cdef object awaited_of(PyObject *acquisition):
    return (<Acquisition>acquisition).waiter.awaited()


cdef PySendResult send_to(PyObject *self, PyObject *value, PyObject **result) noexcept:
    """``Acquisition.send`` as ``await`` calls it, with no exception to carry the protocol."""
    cdef Acquisition acquisition = <Acquisition>self
    if acquisition.inner is None:
        result[0] = (<returns_new>begun)(self)
        if result[0] == NULL:
            return PYGEN_ERROR
        if result[0] != <PyObject *>None:
            return PYGEN_RETURN
        Py_DECREF(None)
        if acquisition.waiter is not None:
            result[0] = (<returns_new>awaited_of)(self)
            return PYGEN_ERROR if result[0] == NULL else PYGEN_NEXT
        value = <PyObject *>None
    return PyIter_Send(<PyObject *>acquisition.inner, value, result)


cdef PyObject *next_of(PyObject *self) noexcept:
    """``Acquisition.__next__`` as ``await`` calls it since Python 3.12; no traceback is made."""
    cdef PyObject *result = NULL
    cdef PyObject *stop
    cdef PySendResult how = send_to(self, <PyObject *>None, &result)
    if how == PYGEN_NEXT:
        return result
    if how == PYGEN_RETURN:
        stop = call_one(<PyObject *>StopIteration, result)
        Py_DECREF(<object>result)
        if stop != NULL:
            set_raised(<PyObject *>StopIteration, stop)
            Py_DECREF(<object>stop)
    return NULL


(<AwaitableType *>Acquisition).tp_as_async.am_send = send_to
(<AwaitableType *>Acquisition).tp_iternext = next_of


@cython.final
@cython.no_gc_clear                     # __dealloc__ gives the slot back
cdef class Slot:
    """A place for a connection to be: it is filled, or free again, at the latest when dropped.

    A signal handler may raise between any two calls of Python code, where no handler of
    exceptions stands yet; so whoever has a slot need not do anything for it to come free.
    """

    def __init__(self):
        raise TypeError("a Slot is made by a connection manager")

    def __dealloc__(self):
        # in a ring of garbage the manager may have been emptied before
        if self.manager is not None and self.manager._policy is not None:
            if not self.manager._loop.is_closed():
                self.free()

    def fill(self, Connection connection not None):
        """The connection was opened; return whether its protocol has none already."""
        cdef Leases manager = self.manager
        if manager is None:
            raise RuntimeError("the slot was given back")
        self.manager = None
        manager._policy.opened(self.pool, connection)
        is_new = manager._enroll(connection)
        connection.transport.lost_callback = connection
        return is_new

    def free(self):
        """Give the slot back, if it is not filled."""
        cdef Leases manager = self.manager
        if manager is not None:
            self.manager = None
            manager._policy.open_failed(self.pool)
            manager._slot_freed(self.pool)


cdef int waited_for_too_long(void *owner) except -1:
    cdef Waiter waiter = <Waiter>owner
    cdef object endpoint = waiter.pool.key
    waiter.fail(EndpointTimeoutError(
        "no connection came free before the deadline", host=endpoint.host, port=endpoint.port,
        phase="pool"))
    return waiter.manager.go_on()


@cython.final
@cython.freelist(64)
@cython.no_gc_clear                     # __dealloc__ gives back what it was served
cdef class Waiter:
    """A caller in a pool's queue, and what it is served: a connection, or a slot to open one in.

    What it was served is its own until it is taken, and given back at the latest when it is
    dropped; so that whoever waits need not do anything for that.

    Attributes:
        future: done when it was served, or is not going to be.
        found: what it was served, until that is taken.
    """

    def __init__(self):
        raise TypeError("a Waiter is made by a connection manager")

    def __dealloc__(self):
        if self.timers is not None:
            self.timers.disarm(&self.deadline)
        if self.found is not None and self.is_of_use():
            self.refuse()

    cdef bint serve(self, object found) except -1:
        """Hand over; return whether somebody waits still: who was cancelled has yet to leave."""
        if self.future.done():
            return False
        self.found = found
        self.timers.disarm(&self.deadline)
        self.future.set_result(None)
        return True

    def fail(self, error not None):
        """Let who waits raise *error*."""
        if not self.future.done():
            self.error = error
            self.future.set_result(None)
        self.timers.disarm(&self.deadline)      # who waited may be gone
        self.manager._policy.leave(self.pool, self)

    def check(self):
        """Raise what went wrong, when the future is done; then nobody waits any longer."""
        cdef object error = self.error
        if error is not None:
            self.give_up()
            raise error

    def take(self):
        """Return what was found, the caller's from now on."""
        cdef object found = self.found
        self.manager.note_waited(self)
        self.is_over = True
        self.found = None               # last: what raises above has not taken it
        return found

    def lend(self):
        """Return the protocol of the connection that was found, leased to the caller."""
        return self.lease().protocol

    def give_up(self):
        """Wait no longer, and pass on what was found."""
        if self.is_over:
            return
        self.is_over = True
        self.refuse()
        self.leave()
        self.manager.note_gave_up(self)

    def spoil(self):
        """Let go of the connection that was found, which is of no use."""
        cdef Connection connection = <Connection?>self.found
        self.is_over = True
        self.found = None
        self.manager._spoil(connection)

    cdef int drop(self) except -1:
        """Who waits is garbage."""
        if self.is_of_use():
            self.give_up()
        return 0

    cdef bint is_of_use(self) noexcept:
        """Whether there is a loop; in a ring of garbage the manager may have been emptied."""
        cdef Leases manager = self.manager
        return (manager is not None and manager._policy is not None
                and manager._loop is not None and not manager._loop._closed)

    cdef Connection lease(self):
        cdef Connection connection = <Connection?>self.found
        self.manager.note_waited(self)
        self.manager.lent(connection)
        self.is_over = True
        self.found = None
        return connection

    cdef bint has_ended(self) except -1:
        return self.found is not None or self.error is not None or self.future.done()

    cdef object awaited(self):
        self.future._asyncio_future_blocking = True
        return self.future

    cdef bint is_good(self) except -1:
        """Whether this was served a connection that can be lent at once."""
        cdef Connection connection
        if type(self.found) is not Connection:
            return False
        connection = <Connection>self.found
        return self.manager.is_quiet(connection, connection.leases > 1)

    cdef int leave(self) except -1:
        cdef Leases manager = self.manager
        self.timers.disarm(&self.deadline)
        manager._policy.leave(self.pool, self)
        return manager.go_on()

    cdef int refuse(self) except -1:
        cdef object found = self.found
        self.found = None
        if type(found) is Slot:
            (<Slot>found).free()
        elif found is not None:
            self.manager.give_back(<Connection?>found, self.manager._loop.now_ns())
        return 0


cdef class Leases:
    """The part of a connection manager that every lease goes through.

    Args:
        policy: who decides.
        trusts: whether a connection that was given back less than a millisecond ago is lent
            without asking whether something has come for it since.
        max_uses: leases after which a connection is closed; 0 for no limit.
        max_waiting: callers that may wait.
        on_event: called with a ``PoolEvent`` for each thing that happens.
    """

    def __init__(self, PoolPolicy policy not None, *, bint trusts, int64_t max_uses,
                 int max_waiting, on_event):
        self._policy = policy
        self.connections = {}
        self.trusts = trusts
        self._max_uses = max_uses
        self._max_waiting = max_waiting
        self._waits = Histogram()
        self.on_event = on_event

    def acquire(self, factory, host, port=None, *, deadline=None, bint fresh=False, **key):
        """Lease a connection: an idle one, a new one, or the next to come free.

        Args:
            factory: makes the protocol of a new connection.
            host: where to; or an ``Endpoint``, made once and for all.
            port: of the host; none beside an ``Endpoint``.
            deadline: when to give up, on the loop's clock in seconds.
            fresh: no used one, for a caller that has found one to be stale.
            key: the endpoint's other fields, *scheme* (``"tcp"`` if none is given), *tls* and
                so on.

        A protocol with an attribute ``max_leases`` above 1 is leased to so many callers at a
        time (see ``set_max_leases``).

        Returns the protocol.  Raises the ``EndpointError`` of the phase that failed
        (``"pool"`` while waiting for a free one), ``PoolFullError`` when too many wait,
        ``PoolClosedError`` after ``close``.
        """
        if type(host) is not ENDPOINT or port is not None or key:
            host = as_endpoint(host, port, key)
        cdef Acquisition acquisition = Acquisition.__new__(Acquisition)
        acquisition.manager = self
        acquisition.factory = factory
        acquisition.endpoint = host
        acquisition.deadline = deadline
        acquisition.deadline_ns = limit_of(deadline)
        acquisition.fresh = fresh
        return acquisition

    def take(self, endpoint):
        """Lease an idle connection at once; ``None`` when there is none to be had.

        That may also be because something came for the newest one since the loop last read;
        ``acquire`` lets the loop read it, and the protocol judge.

        Raises ``PoolClosedError`` after ``close``, and ``RuntimeError`` on another thread than
        the loop's.
        """
        cdef object protocol
        self.check_thread()
        protocol = self.take_one(endpoint)
        if protocol is None:
            self._check_open()
        return protocol

    cdef object take_one(self, object endpoint):
        cdef Connection connection = self.take_lease(endpoint)
        return None if connection is None else connection.protocol

    cdef Connection take_lease(self, object endpoint):
        cdef PyObject *found = look_up(self._policy.pools, endpoint)
        return None if found == NULL else self.take_from(<EndpointPool>found)

    cdef Connection take_from(self, EndpointPool pool):
        cdef Connection connection
        cdef bint is_quiet
        while True:
            connection = <Connection>self._policy.lendable(pool)
            if connection is None:
                return None
            if (not connection.leases and self.trusts
                    and self._loop.now_ns() - connection.since_ns < TRUST_NS):
                is_quiet = True
            else:
                is_quiet = self.is_quiet(connection, connection.leases > 0)
            if is_quiet:
                self._policy.lend(connection)
                self.lent(connection)
                return connection
            if not connection.transport.is_closing():
                return None
            self._wear_out(connection, "unusable")

    cdef bint is_quiet(self, Connection connection, bint is_shared) except -1:
        if is_shared:
            return not connection.transport.is_closing()
        return connection.transport.is_quiet()

    cdef Waiter queue(self, object endpoint, int64_t deadline_ns, bint fresh):
        cdef PyObject *found = look_up(self._policy.pools, endpoint)
        cdef PoolPolicy policy = self._policy
        cdef EndpointPool pool
        if (found == NULL or self._closed or policy.waiting >= self._max_waiting
                or self._loop is None or not self._loop.runs_here()):
            return None
        pool = <EndpointPool>found
        if policy.may_open(pool) or not (fresh or policy.lendable(pool) is None):
            return None
        return self.join(pool, deadline_ns, fresh)

    cdef Waiter join(self, EndpointPool pool, int64_t deadline_ns, bint fresh):
        """Put a caller into the queue; *deadline_ns* is on the loop's clock, 0 for none."""
        cdef Waiter waiter = Waiter.__new__(Waiter)
        memset(&waiter.deadline, 0, sizeof(Timer))
        waiter.deadline.fire = waited_for_too_long
        waiter.deadline.owner = <void *>waiter
        waiter.manager = self
        waiter.timers = self._loop.timers
        waiter.pool = pool
        waiter.began_ns = self._loop.now_ns()
        waiter.future = self._loop.create_future()
        if deadline_ns:
            self._loop.timers.arm(&waiter.deadline, deadline_ns)
        self._policy.join(pool, waiter, fresh)
        self._serve()
        return waiter

    cdef int note_waited(self, Waiter waiter) except -1:
        cdef double seconds = (self._loop.now_ns() - waiter.began_ns) / 1e9
        self._waits.count(seconds)
        if self.on_event is not None:
            self._tell(PoolEvent("waited", waiter.pool.key, None, seconds))
        return 0

    cdef int note_gave_up(self, Waiter waiter) except -1:
        cdef double seconds = (self._loop.now_ns() - waiter.began_ns) / 1e9
        self._gave_up += 1
        if self.on_event is not None:
            self._tell(PoolEvent("gave_up", waiter.pool.key, None, seconds))
        return 0

    cdef int lent(self, Connection connection) except -1:
        """Count a lease of a connection that was used before."""
        connection.uses += 1
        self._reused += 1
        if connection.uses == self._max_uses:
            self._wear_out(connection, "uses")
        if self.on_event is not None:
            self._tell(PoolEvent("reused", connection.pool.key, None, 0.0))
        return 0

    def release(self, protocol):
        """Give a leased connection back for others to use.

        Raises ``ValueError`` for what is not leased, and ``RuntimeError`` on another thread
        than the loop's.
        """
        self.give_back(self.leased(protocol), self._loop.now_ns())

    def discard(self, protocol):
        """Give a leased connection back that nobody may use again; it is aborted.

        A caller that shares it with others and only wants no more of it releases it.  Raises
        ``ValueError`` for what is not leased, and ``RuntimeError`` on another thread than the
        loop's.
        """
        self._drop(self.leased(protocol), "discarded")

    cdef int give_back(self, Connection connection, int64_t now_ns) except -1:
        cdef object waiter
        if connection.reason is not None or connection.transport.is_closing():
            self._let_go(connection)
            return 0
        while True:
            waiter = self._policy.give_back(connection, now_ns)
            if waiter is None:
                break
            if (<Waiter?>waiter).serve(connection):
                return 0
        self.go_on()
        if self._expiry is None:
            self._schedule_expiry()
        if self.on_event is not None:
            self._tell(PoolEvent("released", connection.pool.key, None, 0.0))
        return 0

    cdef int go_on(self) except -1:
        """Something came free, maybe: let those who wait use it."""
        if self._policy.waiting:
            self._serve()
        return 0

    cdef int check_thread(self) except -1:
        """``RuntimeError`` on another thread than that of the loop, where it runs."""
        if (self._loop is not None and self._loop._thread_id is not None
                and PyLong_AsUnsignedLong(self._loop._thread_id)
                != <unsigned long>PyThread_get_thread_ident()):
            raise RuntimeError("the connection manager belongs to another thread's event loop")
        return 0

    cdef Connection leased(self, object protocol):
        """Return the connection of *protocol*, which is leased, or was when it was lost."""
        cdef Connection connection
        cdef PyObject *found
        self.check_thread()
        connection = self.connection_of(protocol)
        if connection is None:
            found = look_up(self.connections, PyLong_FromVoidPtr(<PyObject *>protocol))
            if found != NULL:
                connection = <Connection>found
        if connection is None or connection.leases == 0:
            raise ValueError(f"{protocol!r} is not leased from this manager")
        return connection

    cdef Connection connection_of(self, object protocol):
        """Return the connection of *protocol* if its transport knows; the short way."""
        cdef object transport
        cdef object callback
        if isinstance(protocol, Protocol):
            transport = (<Protocol>protocol).transport
            if isinstance(transport, Transport):
                callback = (<Transport>transport).lost_callback
                if (type(callback) is Connection and (<Connection>callback).manager is self
                        and (<Connection>callback).protocol is protocol):
                    return <Connection>callback
        return None

    cdef Slot new_slot(self, EndpointPool pool):
        """Return a slot that the policy has reserved."""
        cdef Slot slot = Slot.__new__(Slot)
        slot.pool = pool
        slot.manager = self
        return slot

    # -- for the manager that derives from this -----------------------------------------
    #
    # No signal handler runs within these: what they do is done whole, or not at all.

    def _reserve(self, EndpointPool pool not None):
        """Reserve a slot, which the policy allows."""
        self._policy.reserve(pool)
        return self.new_slot(pool)

    def _serve(self):
        """Let those who wait use what is free: each gets a connection, or a slot for one."""
        cdef PoolPolicy policy = self._policy
        cdef Connection connection
        cdef Slot slot
        cdef tuple step
        while True:
            step = policy.next_step()
            if step is None:
                return
            what, pool, waiter, member = step
            if what is STEP_ABORT:
                connection = <Connection?>member
                if connection.reason is None:
                    connection.reason = "evicted"
                connection.transport.abort()
            elif what is STEP_OPEN:
                slot = self.new_slot(<EndpointPool?>pool)
                if not (<Waiter?>waiter).serve(slot):
                    slot.manager = None         # not free(), which would come back here
                    policy.open_failed(slot.pool)
                    policy.forget_if_empty(slot.pool)
            else:
                while waiter is not None and not (<Waiter?>waiter).serve(member):
                    waiter = policy.give_back(<Connection?>member, self._loop.now_ns())

    def _let_go(self, Connection connection not None):
        """Take back one lease of what is not to be lent again."""
        cdef bint last = self._policy.end_lease(connection)
        cdef str place = connection.place
        if place == "leased" and not last:
            self._wear_out(connection, "unusable")
        elif place == "leased":
            self._end(connection, "unusable")
        elif place == "lost" and last:
            self._strike_off(connection)

    def _spoil(self, Connection connection not None):
        """Take back one lease of what turned out to be of no use."""
        if connection.leases > 1:
            self._let_go(connection)
        else:
            self._drop(connection, "unusable")

    def _drop(self, Connection connection not None, str reason not None):
        """Take back one lease and abort the connection."""
        cdef bint last = self._policy.end_lease(connection)
        if connection.place != "lost":
            self._end(connection, reason, True)
        elif last:
            self._strike_off(connection)

    def _wear_out(self, Connection connection not None, str reason not None):
        """Lend a connection no more; it is closed when nobody has it."""
        if connection.reason is None:
            connection.reason = reason
        if connection.place == "idle":
            self._end(connection, reason)
        elif connection.max_leases > 1:
            self._policy.set_max_leases(connection, 0)

    def _end(self, Connection connection not None, str reason not None, bint abort=False):
        """Close a connection that nobody has any longer, or abort it whoever has it."""
        if connection.reason is None:
            connection.reason = reason
        self._policy.close(connection, abort)
        if abort:
            connection.transport.abort()
        else:
            connection.transport.close()
        self.go_on()

    def _lost(self, Connection connection not None):
        """The transport is gone, for whatever reason."""
        cdef EndpointPool pool = connection.pool
        if not connection.leases:
            self._strike_off(connection)    # else when its holders give it back
        self._policy.lost(connection)
        try:
            self._note_lost(connection)
        finally:
            self._slot_freed(pool)

    def _slot_freed(self, EndpointPool pool not None):
        """Let those who wait use what came free of *pool*, and wake who waits for the end."""
        cdef object change = self._change
        self.go_on()
        self._policy.forget_if_empty(pool)
        if change is not None:
            self._change = None
            if not change.done():
                change.set_result(None)

    def _join(self, EndpointPool pool not None, object deadline, bint fresh):
        """Put a caller into the queue, until *deadline* in seconds, if any."""
        return self.join(pool, limit_of(deadline), fresh)

    def _is_quiet(self, Connection connection not None):
        """Return whether a connection in our hands can be lent."""
        return self.is_quiet(connection, connection.leases > 1)

    def _check_thread(self):
        self.check_thread()

    def _leased(self, protocol):
        return self.leased(protocol)

    def _find(self, protocol):
        """Return the connection of *protocol*, or ``None``."""
        return self.connections.get(id(protocol))

    def _lent(self, Connection connection not None):
        self.lent(connection)
        return connection.protocol

    def _bind(self, Reactor loop not None):
        """Belong to *loop*; ``RuntimeError`` if this belongs to another."""
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("the connection manager belongs to another event loop")

    def _now_ns(self):
        return self._loop.now_ns()

    def _enroll(self, Connection connection not None):
        """Note a new connection; whether its protocol has not got one already."""
        return self.connections.setdefault(id(connection.protocol), connection) is connection

    def _strike_off(self, Connection connection not None):
        """Forget a connection that is lost and that nobody has."""
        if self.connections.get(id(connection.protocol)) is connection:
            del self.connections[id(connection.protocol)]

    def _all(self):
        """Return every connection."""
        return list(self.connections.values())
