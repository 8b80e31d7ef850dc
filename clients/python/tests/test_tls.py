"""A TLS error is an outage: both clients against a real server."""

from __future__ import annotations

import gc
import socket
import ssl
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import trustme
from conftest import Make
from servers import accepting

from exact_limiter import UnavailableError

USER = {"user": "u_1", "ip": "203.0.113.7"}


def hanging_up(context: ssl.SSLContext | None) -> Callable[[socket.socket], None]:
    """Shakes hands, and hangs up after the request. Without a context, it speaks no TLS."""

    def handle(connection: socket.socket) -> None:
        # A client that gave up may keep its connection open, and send nothing more.
        connection.settimeout(5)
        if context is None:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65_536)

    return handle


def trusted(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def asks_for_a_certificate(authority: trustme.CA) -> ssl.SSLContext:
    """In TLS 1.3 the client's handshake succeeds: the alert comes instead of the response."""
    context = trusted(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


def untrusted(_: trustme.CA) -> ssl.SSLContext:
    return trusted(trustme.CA())


def no_tls(_: trustme.CA) -> None:
    return None


@pytest.fixture
def no_garbage_collection() -> Generator[None, None, None]:
    """The collector would close what the client forgets."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "server", [asks_for_a_certificate, untrusted, no_tls, trusted], ids=lambda server: server.__name__
)
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_tls_error_is_an_outage(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server: Callable[[trustme.CA], ssl.SSLContext | None],
    on_error: str,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with accepting(hanging_up(server(authority))) as listening:
        client = make(f"https://localhost:{listening.port}", deadline_seconds=1, on_error=on_error)
        decision = client.consume("chat", USER)
        assert (decision.allowed, decision.degraded) == (on_error == "allow", True)
        with pytest.raises(UnavailableError):
            client.settle("chat", USER, id="x", cost=0)


def says_nothing(connection: socket.socket) -> None:
    """Waits for the client to hang up."""
    while connection.recv(65_536):
        pass


def test_a_connection_whose_handshake_takes_too_long_is_closed(make: Make, no_garbage_collection: None) -> None:
    with accepting(says_nothing) as listening:
        assert make(f"https://localhost:{listening.port}", deadline_seconds=0.3).consume("chat", USER).degraded
        closes_by = time.monotonic() + 5
        while listening.closed < listening.accepted and time.monotonic() < closes_by:
            time.sleep(0.01)
        assert listening.closed == listening.accepted > 0


def test_unreadable_certificates_are_an_outage(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Certificates are read for the first connection, not by the constructor."""
    (tmp_path / "authority.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    assert make("https://localhost:1", deadline_seconds=0.3).consume("chat", USER).degraded
