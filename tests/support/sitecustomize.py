"""Put on PYTHONPATH by the chain test: any connection to another machine is refused and written to
the file NETWORK_LOG.
"""

import os
import socket

_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _note(what: str) -> None:
    with open(os.environ["NETWORK_LOG"], "a", encoding="utf-8") as log:
        log.write(what + "\n")


def _guarded_connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOCAL):
        _note(f"connect {address}")
        raise OSError("the network is closed for this test")
    return _connect(self, address)


def _guarded_getaddrinfo(host, *rest, **named):
    if host and not str(host).startswith(_LOCAL) and host != socket.gethostname():
        _note(f"look-up {host}")
        raise OSError("the network is closed for this test")
    return _getaddrinfo(host, *rest, **named)


if "NETWORK_LOG" in os.environ:
    socket.socket.connect, socket.getaddrinfo = _guarded_connect, _guarded_getaddrinfo
