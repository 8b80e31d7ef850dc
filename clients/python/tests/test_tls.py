"""What goes wrong with TLS is an outage like any other: both clients against a real server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme
from conftest import Make

from exact_limiter import AsyncLimiter, UnavailableError

USER = {"user": "u_1", "ip": "203.0.113.7"}


@contextmanager
def serving(context: ssl.SSLContext | None) -> Generator[str, None, None]:
    """Shakes hands, and hangs up after what is sent; without a context it speaks no TLS at all."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A client that gave up in the middle may keep its connection open, and say nothing more.
            connection.settimeout(5)
            with connection, suppress(OSError):
                if context is None:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    continue
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(65_536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def trusted(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def asks_for_a_certificate(authority: trustme.CA) -> ssl.SSLContext:
    """TLS 1.3 tells the client of it only after the handshake: in place of the answer."""
    context = trusted(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


def strange(_: trustme.CA) -> ssl.SSLContext:
    return trusted(trustme.CA())


def no_tls(_: trustme.CA) -> None:
    return None


@pytest.mark.parametrize(
    "server", [asks_for_a_certificate, strange, no_tls, trusted], ids=lambda server: server.__name__
)
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_an_error_of_tls_is_an_outage(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server: Callable[[trustme.CA], ssl.SSLContext | None],
    on_error: str,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with serving(server(authority)) as url:
        client = make(url, deadline_seconds=1, on_error=on_error)
        decision = client.consume("chat", USER)
        assert (decision.allowed, decision.degraded) == (on_error == "allow", True)
        with pytest.raises(UnavailableError):
            client.settle("chat", USER, id="x", cost=0)


def test_certificates_that_can_not_be_read_are_an_outage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client for event loops reads them with its first connection, the one for threads when it is made."""
    (tmp_path / "authority.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    limiter = AsyncLimiter("https://localhost:1", "token", deadline_seconds=0.3)
    assert asyncio.run(limiter.consume("chat", USER)).degraded
