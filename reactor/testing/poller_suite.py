"""The contract of ``reactor.pollers.contract`` as tests, to be run on every poller.

Owns: what a poller must do, sentence by sentence.  May not touch: reactors, protocols; it
drives a bare poller through ``poller_probe``.
Invariant: a test says nothing that the contract does not promise: where a poller may complete
in line or later, now or soon, both pass.

A poller's own test module subclasses ``PollerSuite`` and has a fixture ``harness``::

    @pytest.fixture
    def harness():
        with SystemHarness("epoll") as harness:
            yield harness

    class TestEpoll(PollerSuite):
        pass
"""

# ruff: noqa: D102 - the names of tests are their docstrings
from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import threading
from typing import Any

import pytest

from reactor.testing.descriptor_suite import DescriptorSuite
from reactor.testing.poller_harness import (
    FULL,
    LOOPBACK,
    Harness,
    drain,
    fill,
    idle_returns,
    receive_all,
    send_all,
)
from reactor.testing.poller_probe import ProbeOp

__all__ = ["PollerSuite"]


class PollerSuite(DescriptorSuite):
    """What every poller must do.  Subclasses supply the fixture ``harness``."""

    # -- receiving -------------------------------------------------------------------

    @pytest.mark.parametrize("given", [None, 100])
    def test_receive_waits_for_bytes(self, harness: Harness, given: int | None) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two, given)
        assert op.submit()
        assert harness.probe.wait(0) == []
        assert op.state == "pending"
        send_all(harness, one, b"hello")
        harness.run(op)
        assert op.results == [len(op.data)]
        rest = receive_all(harness, two, 5 - op.result)
        assert bytes(op.data) + rest == b"hello"

    def test_receive_without_try_is_never_done_in_line(self, harness: Harness) -> None:
        one, two = harness.pair()
        send_all(harness, one, b"there already")
        for _ in range(3):
            op = harness.probe.receive(two, 1)
            assert op.submit()
            harness.run(op)
            assert op.results == [1]

    def test_receive_with_try_takes_what_is_there(self, harness: Harness) -> None:
        one, two = harness.pair()
        send_all(harness, one, b"!")
        harness.until(lambda: harness.probe.wait(0.01) == [])
        op = harness.probe.receive(two)
        op.submit(try_now=True)
        harness.run(op)
        assert op.data == b"!"

    def test_receive_with_nowait_never_waits(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two, 10)
        assert not op.submit(no_wait=True)
        assert op.result == -errno.EAGAIN
        send_all(harness, one, b"!")
        assert not op.submit(no_wait=True)
        assert op.result in {-errno.EAGAIN, 1}

    def test_idle_connection_holds_no_block(self, harness: Harness) -> None:
        ops = [harness.probe.receive(harness.pair()[0]) for _ in range(10)]
        for op in ops:
            assert op.submit()
        harness.probe.wait(0)
        assert harness.pool.in_use == (10 if harness.lends_early else 0)

    def test_lent_block_is_the_owners_until_it_is_given_back(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two, keep=True)
        op.submit()
        send_all(harness, one, b"abc")
        harness.run(op)
        assert op.holds_block
        assert harness.pool.in_use == 1
        op.give_back()
        assert harness.pool.in_use == 0

    def test_failed_receive_lends_no_block(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two, keep=True)
        op.submit()
        harness.reset(one)
        harness.run(op)
        assert op.result == -errno.ECONNRESET
        assert not op.holds_block

    def test_a_batch_of_receives_borrows_one_block(self, harness: Harness) -> None:
        pairs = [harness.pair() for _ in range(20)]
        ops = [harness.probe.receive(two) for _, two in pairs]
        for op in ops:
            op.submit()
        for one, _ in pairs:
            send_all(harness, one, b"x")
        harness.run(*ops)
        assert harness.pool.high_water == (20 if harness.lends_early else harness.blocks_ahead)

    def test_bytes_arrive_whole_and_in_order(self, harness: Harness) -> None:
        one, two = harness.pair()
        message = os.urandom(30_000)
        got = bytearray()
        receive = harness.probe.receive(two)

        def again(op: ProbeOp) -> None:
            if len(op.data) < len(message):
                op.submit()

        receive.on_done = again
        receive.submit()
        send_all(harness, one, message)
        harness.until(lambda: len(receive.data) == len(message))
        got += receive.data
        assert got == message

    # -- sending ---------------------------------------------------------------------

    def test_send_reports_how_much_was_taken(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.send(one, b"0123456789")
        op.submit(try_now=True)
        harness.run(op)
        assert 0 < op.result <= 10
        assert receive_all(harness, two, op.result) == b"0123456789"[: op.result]

    def test_send_without_try_completes(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.send(one, b"later")
        op.submit()
        harness.run(op)
        assert receive_all(harness, two, op.result) == b"later"[: op.result]

    def test_send_with_nowait_is_never_pending_and_needs_no_memory_after(
        self, harness: Harness
    ) -> None:
        one, two = harness.pair()
        op = harness.probe.send(one, b"now or never")
        assert not op.submit(no_wait=True)
        assert op.result == -errno.EAGAIN or op.result > 0
        sent = max(op.result, 0)
        del op
        gc.collect()
        assert receive_all(harness, two, sent) == b"now or never"[:sent]

    def test_vectors_are_gathered_in_order(self, harness: Harness) -> None:
        one, two = harness.pair()
        chunks = [bytes([65 + at]) * (at + 1) for at in range(32)]
        whole = b"".join(chunks)
        op = harness.probe.send(one, chunks)
        op.submit(try_now=True)
        harness.run(op)
        assert 0 < op.result <= len(whole)
        assert receive_all(harness, two, op.result) == whole[: op.result]

    def test_send_waits_while_the_peer_does_not_read(self, harness: Harness) -> None:
        one, two = harness.pair()
        op, before = fill(harness, one)
        assert op.results == []
        drain(harness, two, before)
        harness.run(op)
        assert op.result > 0
        drain(harness, two, op.result)

    def test_nowait_on_a_full_socket_is_eagain(self, harness: Harness) -> None:
        one, two = harness.pair()
        op, _ = fill(harness, one)
        op.cancel()
        harness.run(op)
        again = harness.probe.send(one, FULL)
        while not again.submit(no_wait=True) and again.result > 0:
            pass  # the system may find a little room yet
        assert again.result == -errno.EAGAIN
        harness.close(two)

    def test_both_directions_of_one_descriptor_wait_at_once(self, harness: Harness) -> None:
        one, two = harness.pair()
        send, before = fill(harness, one)
        receive = harness.probe.receive(one)
        receive.submit()
        send_all(harness, two, b"the other way")
        harness.run(receive)
        assert b"the other way".startswith(receive.data)
        assert send.state == "pending"
        drain(harness, two, before)
        harness.run(send)
        assert send.result > 0

    # -- the end of a connection -------------------------------------------------------

    def test_end_is_received_after_the_last_byte(self, harness: Harness) -> None:
        one, two = harness.pair()
        send_all(harness, one, b"last")
        harness.close(one)
        assert receive_all(harness, two, 4) == b"last"
        op = harness.probe.receive(two)
        op.submit()
        harness.run(op)
        assert op.results == [0]

    def test_half_closed_connection_carries_the_other_direction(self, harness: Harness) -> None:
        one, two = harness.pair()
        assert harness.probe.shut_down(one) == 0
        end = harness.probe.receive(two)
        end.submit()
        harness.run(end)
        assert end.results == [0]
        send_all(harness, two, b"still here")
        assert receive_all(harness, one, 10) == b"still here"

    def test_send_after_shutdown_is_epipe(self, harness: Harness) -> None:
        one, _ = harness.pair()
        assert harness.probe.shut_down(one) == 0
        op = harness.probe.send(one, b"x")
        op.submit(try_now=True)
        harness.run(op)
        assert op.result == -errno.EPIPE

    def test_shutdown_of_an_unconnected_socket_is_enotconn(self, harness: Harness) -> None:
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        assert harness.probe.shut_down(fd) == -errno.ENOTCONN

    def test_reset_ends_the_waiting_receive(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        harness.probe.wait(0)
        harness.reset(one)
        harness.run(op)
        assert op.results == [-errno.ECONNRESET]

    def test_reset_ends_both_directions_each_once(self, harness: Harness) -> None:
        one, two = harness.pair()
        send, _ = fill(harness, two)
        receive = harness.probe.receive(two)
        receive.submit()
        harness.reset(one)
        harness.run(send, receive)
        assert len(send.results) == len(receive.results) == 1
        assert -errno.ECONNRESET in {send.result, receive.result}
        assert {send.result, receive.result} <= {-errno.ECONNRESET, -errno.EPIPE, 0}

    def test_close_with_unread_bytes_resets_the_peer(self, harness: Harness) -> None:
        one, two = harness.pair()
        send_all(harness, one, b"never read")
        op = harness.probe.readable(two)
        op.submit()
        harness.run(op)
        harness.close(two)
        receive = harness.probe.receive(one)
        receive.submit()
        harness.run(receive)
        assert receive.result == -errno.ECONNRESET

    def test_peek_tells_of_bytes_and_takes_none(self, harness: Harness) -> None:
        one, two = harness.pair()
        assert harness.probe.peek(two) == 0
        send_all(harness, one, b"abc")
        harness.until(lambda: harness.probe.peek(two) == 1)
        assert receive_all(harness, two, 3) == b"abc"
        assert harness.probe.peek(two) == 0

    def test_peek_tells_of_the_end(self, harness: Harness) -> None:
        one, two = harness.pair()
        harness.close(one)
        harness.until(lambda: harness.probe.peek(two) == 1)

    def test_peek_tells_of_a_reset(self, harness: Harness) -> None:
        one, two = harness.pair()
        found: list[int] = []

        def told() -> bool:
            found.append(harness.probe.peek(two))
            return found[-1] != 0

        harness.reset(one)
        harness.until(told)
        assert found[-1] == -errno.ECONNRESET

    # -- connecting and accepting -------------------------------------------------------

    def connected(self, harness: Harness, listener: int, address: Any) -> tuple[int, int]:
        accept = harness.probe.accept(listener)
        accept.submit()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        op = harness.probe.connect(fd, socket.AF_INET, address)
        op.submit()
        harness.run(op, accept)
        assert op.results == [0]
        return fd, harness.keep(accept.result)

    def test_connect_and_accept_make_a_connection(self, harness: Harness) -> None:
        listener, address = harness.listener()
        client, server = self.connected(harness, listener, address)
        assert harness.probe.address_of(client, peer=True) == address
        assert harness.probe.address_of(server) == address
        mine = harness.probe.address_of(client)
        assert harness.probe.address_of(server, peer=True) == mine
        send_all(harness, server, b"hello")
        assert receive_all(harness, client, 5) == b"hello"

    def test_refused_connect_fails_once(self, harness: Harness) -> None:
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        op = harness.probe.connect(fd, socket.AF_INET, harness.refused())
        op.submit()
        harness.run(op)
        assert op.results == [-errno.ECONNREFUSED]

    def test_bound_socket_connects_from_its_address(self, harness: Harness) -> None:
        _, address = harness.listener()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        assert harness.probe.bind(fd, socket.AF_INET, LOOPBACK) == 0
        mine = harness.probe.address_of(fd)
        op = harness.probe.connect(fd, socket.AF_INET, address)
        op.submit()
        harness.run(op)
        assert op.result == 0
        assert harness.probe.address_of(fd) == mine

    def test_bind_to_an_address_in_use_says_so(self, harness: Harness) -> None:
        _, address = harness.listener()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        assert harness.probe.bind(fd, socket.AF_INET, address) == -errno.EADDRINUSE

    def test_peer_of_an_unconnected_socket_is_enotconn(self, harness: Harness) -> None:
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        assert harness.probe.address_of(fd, peer=True) == -errno.ENOTCONN

    def test_option_is_set(self, harness: Harness) -> None:
        one, _ = harness.pair()
        assert harness.probe.set_option(one, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) == 0

    def test_storm_of_connects_is_accepted_one_by_one(self, harness: Harness) -> None:
        listener, address = harness.listener()
        accept = harness.probe.accept(listener)
        accepted: list[int] = []

        def again(op: ProbeOp) -> None:
            if op.result == -errno.ECANCELED:
                return
            accepted.append(harness.keep(op.result))
            op.submit(try_now=len(accepted) % 10 != 0)

        accept.on_done = again
        accept.submit()
        ops = []
        for _ in range(100):
            fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
            ops.append(harness.probe.connect(fd, socket.AF_INET, address))
            ops[-1].submit()
        harness.until(lambda: len(accepted) == 100)
        harness.run(*ops)
        assert len(set(accepted)) == 100
        assert {op.result for op in ops} == {0}
        assert accept.state == "pending"

    def test_accept_without_descriptors_is_emfile_and_recovers(self, harness: Harness) -> None:
        listener, address = harness.listener()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        connect = harness.probe.connect(fd, socket.AF_INET, address)
        connect.submit()
        harness.run(connect)
        accept = harness.probe.accept(listener)
        with harness.out_of_descriptors():
            accept.submit()
            harness.run(accept)
            assert accept.result == -errno.EMFILE
            assert harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM) == -errno.EMFILE
        accept.submit(try_now=True)
        harness.run(accept)
        harness.keep(accept.result)

    # -- readiness -------------------------------------------------------------------

    def test_readable_takes_no_bytes(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.readable(two)
        assert op.submit()
        harness.probe.wait(0)
        assert op.state == "pending"
        send_all(harness, one, b"all of it")
        harness.run(op)
        assert op.results == [0]
        assert receive_all(harness, two, 9) == b"all of it"

    def test_writable_waits_for_room(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.writable(one)
        op.submit()
        harness.run(op)
        assert op.results == [0]
        send, before = fill(harness, one)
        send.cancel()
        harness.run(send)
        before += max(send.result, 0)
        op.submit()
        harness.probe.wait(0.01)
        assert op.state == "pending"
        drain(harness, two, before)
        harness.run(op)
        assert op.results == [0, 0]

    def test_listener_is_readable_when_somebody_knocks(self, harness: Harness) -> None:
        listener, address = harness.listener()
        op = harness.probe.readable(listener)
        op.submit()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        connect = harness.probe.connect(fd, socket.AF_INET, address)
        connect.submit()
        harness.run(op, connect)
        assert op.results == [0]

    # -- cancelling ------------------------------------------------------------------

    def test_cancel_of_an_idle_op_does_nothing(self, harness: Harness) -> None:
        op = harness.probe.receive(harness.pair()[0])
        op.cancel()
        assert op.state == "idle"
        assert harness.probe.wait(0) == []
        assert op.results == []

    @pytest.mark.parametrize("kind", ["receive", "given", "readable", "accept", "send"])
    def test_cancelled_op_completes_exactly_once(self, harness: Harness, kind: str) -> None:
        one, _two = harness.pair()
        if kind == "send":
            op, _ = fill(harness, one)
        else:
            make = {
                "receive": lambda: harness.probe.receive(one),
                "given": lambda: harness.probe.receive(one, 10),
                "readable": lambda: harness.probe.readable(one),
                "accept": lambda: harness.probe.accept(harness.listener()[0]),
            }
            op = make[kind]()
            op.submit()
        op.cancel()
        assert op.state in {"pending", "done"}
        op.cancel()
        harness.run(op)
        assert len(op.results) == 1
        # A part of what was to be sent may be with the system.
        assert op.result == -errno.ECANCELED or (kind == "send" and op.result > 0)
        assert harness.probe.wait(0) == []
        assert len(op.results) == 1

    def test_cancelled_connect_completes_once(self, harness: Harness) -> None:
        _, address = harness.listener()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        op = harness.probe.connect(fd, socket.AF_INET, address)
        op.submit()
        op.cancel()
        harness.run(op)
        assert op.results in ([0], [-errno.ECANCELED])

    def test_cancel_in_the_batch_loses_no_bytes(self, harness: Harness) -> None:
        pairs = [harness.pair() for _ in range(8)]
        ops = [harness.probe.receive(two, 10) for _, two in pairs]
        done: list[ProbeOp] = []

        def cancel_the_others(op: ProbeOp) -> None:
            done.append(op)
            for other in ops:
                other.cancel()

        for op in ops:
            op.on_done = cancel_the_others
            op.submit()
        for one, _ in pairs:
            send_all(harness, one, b"x")
        harness.run(*ops)
        assert len(done) == 8
        for op in ops:
            assert len(op.results) == 1
            if op.result == -errno.ECANCELED:
                assert receive_all(harness, op.fd, 1) == b"x"
            else:
                assert op.data == b"x"

    def test_op_is_submitted_again_right_after_its_cancel(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        op.cancel()
        harness.run(op)
        assert op.submit()
        send_all(harness, one, b"y")
        harness.run(op)
        assert op.results == [-errno.ECANCELED, 1]

    def test_readers_cancel_leaves_the_writer_waiting(self, harness: Harness) -> None:
        one, two = harness.pair()
        send, before = fill(harness, one)
        receive = harness.probe.receive(one)
        receive.submit()
        receive.cancel()
        harness.run(receive)
        assert send.state == "pending"
        drain(harness, two, before)
        harness.run(send)
        assert send.result > 0

    # -- waiting ---------------------------------------------------------------------

    def test_wait_without_anything_returns_at_its_timeout(self, harness: Harness) -> None:
        before = harness.probe.now_ns()
        assert harness.probe.wait(0.02) == []
        assert harness.probe.now_ns() - before >= 20_000_000

    def test_wait_of_zero_returns_at_once(self, harness: Harness) -> None:
        harness.probe.receive(harness.pair()[0]).submit()
        assert harness.probe.wait(0) == []

    def test_wake_before_the_wait_ends_it(self, harness: Harness) -> None:
        harness.probe.wake()
        harness.probe.wake()
        assert harness.probe.wait(None) == []

    def test_wake_ends_one_wait_only(self, harness: Harness) -> None:
        harness.probe.wake()
        harness.probe.wait(None)
        before = harness.probe.now_ns()
        harness.probe.wait(0.01)
        assert harness.probe.now_ns() - before >= 10_000_000

    def test_wake_from_another_thread_ends_the_wait(self, harness: Harness) -> None:
        thread = threading.Timer(0.01, harness.probe.wake)
        thread.start()
        assert harness.probe.wait(None) == []
        thread.join()

    def test_wakes_from_many_threads_lose_no_op(self, harness: Harness) -> None:
        one, two = harness.pair()
        stop = threading.Event()

        def pester() -> None:
            while not stop.is_set():
                harness.probe.wake()

        threads = [threading.Thread(target=pester) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(50):
                op = harness.probe.receive(two)
                op.submit()
                send_all(harness, one, b"z")
                harness.run(op)
                assert op.results == [1]
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
    def test_signal_ends_the_wait(self, harness: Harness) -> None:
        seen: list[int] = []
        op = harness.probe.receive(harness.pair()[0])
        op.submit()
        before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert harness.probe.wait(None) == []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert seen == [signal.SIGALRM]
        assert op.state == "pending"

    def test_unread_bytes_that_nobody_wants_do_not_spin(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two, 1)
        op.submit()
        send_all(harness, one, b"abc")
        harness.run(op)
        assert idle_returns(harness) <= 3
        assert receive_all(harness, two, 2) == b"bc"

    def test_hang_up_that_nobody_wants_does_not_spin(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        harness.probe.wait(0)
        op.cancel()
        harness.run(op)
        harness.reset(one)
        assert idle_returns(harness) <= 3
        op.submit()
        harness.run(op)
        assert op.result == -errno.ECONNRESET

    def test_end_that_nobody_wants_does_not_spin(self, harness: Harness) -> None:
        one, two = harness.pair()
        send = harness.probe.send(two, b"x")
        send.submit()
        receive = harness.probe.receive(two)
        receive.submit()
        harness.run(send)
        assert harness.probe.shut_down(one) == 0
        harness.run(receive)
        assert receive.result == 0
        assert idle_returns(harness) <= 3

    # -- many, and the end -------------------------------------------------------------

    def test_every_op_of_thousands_is_done_exactly_once(self, harness: Harness) -> None:
        pairs = [harness.pair() for _ in range(harness.many)]
        for _ in range(5):
            receives = [harness.probe.receive(two, 16) for _, two in pairs]
            sends = [harness.probe.send(one, b"!") for one, _ in pairs]
            for op in receives + sends:
                op.submit()
            harness.run(*receives, *sends)
            assert all(op.results == [1] for op in receives + sends)

    def test_op_keeps_its_owner_alive(self, harness: Harness) -> None:
        one, two = harness.pair()
        seen: list[bytes] = []
        op = harness.probe.receive(two, 3)
        op.on_done = lambda op: seen.append(bytes(op.data))
        op.submit()
        del op
        gc.collect()
        send_all(harness, one, b"x")
        harness.until(lambda: seen)
        assert seen == [b"x"]
        assert harness.probe.poller.live_ops == 0

    def test_live_ops_are_counted(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        assert harness.probe.poller.live_ops == 1
        send_all(harness, one, b"x")
        harness.run(op)
        assert harness.probe.poller.live_ops == 0
        send_all(harness, one, b"x")
        op.submit()
        while not harness.probe.reap(1):
            pass
        assert op.state == "done"
        assert harness.probe.poller.live_ops == 1
        harness.probe.dispatch()
        harness.run(op)
        assert harness.probe.poller.live_ops == 0

    def test_close_hands_back_every_pending_op_cancelled(self, harness: Harness) -> None:
        ops = []
        for _ in range(20):
            one, two = harness.pair()
            ops += [harness.probe.receive(one), harness.probe.receive(two, 10)]
        accept = harness.probe.accept(harness.listener()[0])
        ops.append(accept)
        for op in ops:
            op.submit()
        harness.probe.wait(0)
        cancelled = ops[3]
        cancelled.cancel()
        harness.probe.close()
        assert harness.probe.poller.closed
        assert all(op.state == "idle" for op in ops)
        assert all(op.results == [-errno.ECANCELED] for op in ops)
        assert harness.probe.poller.live_ops == 0

    def test_submit_to_a_closed_poller_is_ecanceled(self, harness: Harness) -> None:
        one, _ = harness.pair()
        fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
        harness.probe.close()
        ops = [
            harness.probe.receive(one),
            harness.probe.send(one, b"x"),
            harness.probe.readable(one),
            harness.probe.connect(fd, socket.AF_INET, harness.refused()),
        ]
        for op in ops:
            for options in ({}, {"try_now": True}, {"no_wait": True}):
                assert not op.submit(**options)
        assert all(op.results == 3 * [-errno.ECANCELED] for op in ops)

    def test_second_close_does_nothing(self, harness: Harness) -> None:
        harness.probe.close()
        harness.probe.close()
        assert harness.probe.dispatch() == []
