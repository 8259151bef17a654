"""The address of a cluster is tried before Ray is: Ray waits for a wrong one without a word."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deepseek_ocr_mcp.batch import probe as probes
from deepseek_ocr_mcp.batch.cluster import cluster
from deepseek_ocr_mcp.batch.probe import probe
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.errors import EngineUnavailable


@contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """The address of a listener that says this to the first who comes, and hangs up; None: it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                if answer is None:
                    over.wait(30)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        over.set()
        thread.join(30)


def refused(address: str) -> str:
    with pytest.raises(EngineUnavailable) as error:
        probe(address, has_tls=False)
    assert f"No Ray cluster answered at {address}" in error.value.message
    assert "ray start --head" in error.value.remedy
    return error.value.message


def test_a_head_that_answers_with_settings_is_a_cluster() -> None:
    with listener(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as address:
        probe(address, has_tls=False)


def test_a_listener_that_is_no_cluster_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_S", 0.3)
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "does not speak Ray's protocol" in refused(address)
    with listener(b"") as address:
        assert "hung up" in refused(address)
    with listener(None) as address:
        assert "said nothing within 0.3 s" in refused(address)


def test_nobody_at_an_address_is_told_before_ray_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert "nobody listens there: Connection refused" in refused(address)
    assert "nobody listens there" in refused(f"ray://{address}")
    with pytest.raises(EngineUnavailable, match="nobody listens"), cluster(address, 0, Settings()):
        raise AssertionError


def test_a_word_that_only_ray_understands_is_left_to_ray() -> None:
    for word in ("auto", "local", "session_2026"):
        probe(word, has_tls=False)


def test_an_encrypted_cluster_is_asked_for_no_more_than_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe(f"127.0.0.1:{server.getsockname()[1]}", has_tls=True)
