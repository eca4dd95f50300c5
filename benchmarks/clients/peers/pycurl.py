"""pycurl: ``CurlMulti`` driven by its sockets over epoll, and a reused ``Curl.perform()``."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycurl

from benchmarks.clients.work import Job, WrongBytesError

FOREVER_SECONDS = 60


def versions() -> dict[str, str]:
    """Return what it is linked with."""
    return {"libcurl": pycurl.version}


def curl_of(job: Job) -> pycurl.Curl:
    """Return a handle that verifies; ``fresh`` neither keeps connections nor resumes sessions."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, job.url)
    curl.setopt(pycurl.CAINFO, job.ca)
    curl.setopt(pycurl.NOSIGNAL, 1)
    if job.work in ("fresh", "resumed"):
        curl.setopt(pycurl.HTTPHEADER, ["Connection: close"])
        curl.setopt(pycurl.SSL_SESSIONID_CACHE, int(job.work == "resumed"))
    return curl


class Multi:
    """Transfers, told by libcurl of the sockets to watch."""

    def __init__(self, connections: int) -> None:
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self.watch)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self.alarm)
        self.epoll = select.epoll()
        self.watched: set[int] = set()
        self.timeout = -1.0

    def watch(self, what: int, descriptor: int, multi: Any, data: Any) -> None:
        """Watch a socket, differently, or no more."""
        if what == pycurl.POLL_REMOVE:
            if descriptor in self.watched:
                self.watched.remove(descriptor)
                self.epoll.unregister(descriptor)
            return
        events = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (
            select.EPOLLOUT if what & pycurl.POLL_OUT else 0
        )
        if descriptor in self.watched:
            self.epoll.modify(descriptor, events)
        else:
            self.watched.add(descriptor)
            self.epoll.register(descriptor, events)

    def alarm(self, timeout_ms: int) -> None:
        """Call libcurl after so long; -1 for never."""
        self.timeout = timeout_ms / 1e3 if timeout_ms >= 0 else -1.0

    def run(self, transfers: list[Transfer]) -> None:
        """Run transfers until none has a turn left."""
        left = sum(transfer.go_on(self.multi) for transfer in transfers)
        while left:
            wait = self.timeout if self.timeout >= 0 else FOREVER_SECONDS
            events = self.epoll.poll(wait) if wait else []
            if not events:
                self.timeout = -1.0
                self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            for descriptor, event in events:
                self.multi.socket_action(
                    descriptor,
                    (pycurl.CSELECT_IN if event & select.EPOLLIN else 0)
                    | (pycurl.CSELECT_OUT if event & select.EPOLLOUT else 0)
                    | (pycurl.CSELECT_ERR if event & select.EPOLLERR else 0),
                )
            _, done, failed = self.multi.info_read(len(transfers))
            if failed:
                raise RuntimeError(failed)
            for curl in done:
                self.multi.remove_handle(curl)
                if not curl.transfer.finish().go_on(self.multi):
                    left -= 1


class Transfer:
    """One handle, and its turns."""

    turns: Iterator[int]

    def __init__(self, job: Job) -> None:
        self.job = job
        self.pieces: list[bytes] = []
        self.curl = curl_of(job)
        self.curl.transfer = self
        self.curl.setopt(pycurl.WRITEFUNCTION, self.pieces.append)

    def go_on(self, multi: pycurl.CurlMulti) -> int:
        """Begin the next turn; return whether there was one."""
        if next(self.turns, None) is None:
            return 0
        multi.add_handle(self.curl)
        return 1

    def finish(self) -> Transfer:
        """Look at what came."""
        if b"".join(self.pieces) != self.job.body:
            raise WrongBytesError
        self.pieces.clear()
        return self


def get(job: Job) -> None:
    """GET, the connections kept."""
    multi = Multi(job.connections)
    transfers = [Transfer(job) for _ in range(job.connections)]
    for phase in job.phases():
        for transfer, turns in zip(transfers, phase, strict=True):
            transfer.turns = iter(turns)
        multi.run(transfers)


fresh = get
resumed = get


def blocking(job: Job) -> None:
    """``perform()`` of one handle, over and over."""
    pieces: list[bytes] = []
    curl = curl_of(job)
    curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
    for phase in job.phases():
        for _ in phase[0]:
            curl.perform()
            if b"".join(pieces) != job.body:
                raise WrongBytesError
            pieces.clear()


def download(job: Job) -> None:
    """A body, in the pieces in which it comes."""
    curl = curl_of(job)
    for _ in job.phases():
        take = job.begin()
        curl.setopt(pycurl.URL, job.url)
        curl.setopt(pycurl.WRITEFUNCTION, take)
        curl.perform()
        job.end()


def upload(job: Job) -> None:
    """A file, read by libcurl."""
    curl = curl_of(job)
    curl.setopt(pycurl.UPLOAD, 1)
    for _ in job.phases():
        path = Path(job.source)
        with path.open("rb") as file:
            curl.setopt(pycurl.URL, job.url)
            curl.setopt(pycurl.READDATA, file)
            curl.setopt(pycurl.INFILESIZE_LARGE, path.stat().st_size)
            curl.perform()
        if curl.getinfo(pycurl.RESPONSE_CODE) not in (201, 204):
            raise WrongBytesError
