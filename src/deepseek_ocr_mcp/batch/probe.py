"""Finds out within seconds whether a Ray cluster listens at an address. Ray itself waits for a wrong one in silence.

Nothing of Ray is imported. A head speaks gRPC, which is HTTP/2: it answers the opening of a connection (RFC 9113,
section 3.4) with a frame of settings, before anybody has shown a token.
"""

from __future__ import annotations

import socket
import time
from typing import Final
from urllib.parse import urlsplit

from ..errors import EngineUnavailable

__all__ = ["probe"]

PROBE_S: Final = 10.0  # for the connection and the first answer together; a head under load takes less than one
HEAD_PORT: Final = 6379
CLIENT_PORT: Final = 10001  # of ray://

_OPENING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS: Final = 4  # the type of a frame, its fourth byte


def probe(address: str, *, has_tls: bool) -> None:
    """Return where a Ray cluster listens, or where its address is a name that only Ray understands (`auto`).

    Args:
        address: as for `ray.init`.
        has_tls: whether the cluster's connections are encrypted: then it is enough that somebody listens.

    Raises:
        EngineUnavailable: nobody listens there, or the one who listens is no Ray cluster.
    """
    place = _place(address)
    if place is None:
        return
    try:
        with socket.create_connection(place, PROBE_S) as connection:
            why = "" if has_tls else _speaks_otherwise(connection)
    except OSError as exc:
        why = f"nobody listens there: {exc.strerror or type(exc).__name__}"
    if why:
        raise EngineUnavailable(
            f"No Ray cluster answered at {address} ({why}).",
            remedy="Start one with `ray start --head` and name its address: HOST:6379, or auto on one of its machines. "
            "A firewall must let this machine reach that port.",
        )


def _place(address: str) -> tuple[str, int] | None:
    """Host and port of an address; None for a word of Ray's own."""
    is_client = address.startswith("ray://")
    if not is_client and ":" not in address:
        return None
    try:
        parts = urlsplit(f"//{address.removeprefix('ray://')}")
        port = parts.port or (CLIENT_PORT if is_client else HEAD_PORT)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def _speaks_otherwise(connection: socket.socket) -> str:
    """How the listener differs from a Ray cluster; empty: it does not."""
    began, answer = time.monotonic(), b""
    connection.sendall(_OPENING)
    while len(answer) < 4:
        connection.settimeout(max(0.01, PROBE_S - (time.monotonic() - began)))
        try:
            data = connection.recv(64)
        except TimeoutError:
            return f"the listener said nothing within {PROBE_S:g} s"
        if not data:
            return "the listener hung up"
        answer += data
    return "" if answer[3] == _SETTINGS else "the listener does not speak Ray's protocol"
