"""A server that can be made to fail: what stands between it and those who talk to it."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

LOCALHOST = "127.0.0.1"


class Proxy:
    """Stands before a server, and can fail like one."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.silent = False
        self.connections = 0
        self._listen(0)
        assert self._listener is not None
        self._port: int = self._listener.getsockname()[1]
        self.url: str = urlunsplit(self._target._replace(netloc=self._netloc()))

    def cut(self) -> None:
        """Close all connections, as a broker does that restarts, or that finds them idle."""
        for each in self._sockets:
            shut(each)
        self._sockets.clear()

    def refuse(self) -> None:
        """Close all connections and accept no more."""
        assert self._listener is not None
        shut(self._listener)
        self._listener = None
        self.cut()

    def come_back(self) -> None:
        """Accept connections again."""
        self._listen(self._port)

    def close(self) -> None:
        if self._listener is not None:
            self.refuse()
        self.cut()

    def _netloc(self) -> str:
        login, at, _ = self._target.netloc.rpartition("@")
        return f"{login}{at}{LOCALHOST}:{self._port}"

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server((LOCALHOST, port))
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((self._target.hostname, self._target.port))
            self.connections += 1
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with ExitStack() as both:
            both.callback(shut, sink)
            both.callback(shut, source)
            try:
                while data := source.recv(65536):
                    if not self.silent:
                        sink.sendall(data)
            except OSError:
                pass


def shut(each: socket.socket) -> None:
    """Close a socket although another thread may be waiting for it, which alone would keep it open."""
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster
    each.close()
