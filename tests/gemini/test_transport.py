"""The way out, against servers and proxies of a few lines: what they get, and what comes of their replies."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import threading
import time

import pytest

from enrichkit.gemini.transport import ProxyError, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
PROXY = "http://ana:w%20rd@{}"


class Listener:
    """Takes connections, each with a list of what it answers to each request; notes the heads."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.heads: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._serve, args=(connections,), daemon=True).start()

    def _serve(self, connections):
        for replies in connections:
            with contextlib.suppress(OSError):
                connection, _ = self._socket.accept()
                with connection, connection.makefile("rb") as file:
                    for reply in replies:
                        head = b"".join(iter(file.readline, b"\r\n"))
                        self.heads.append(head)
                        file.read(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or 0))
                        connection.sendall(reply)
            self.ended.release()
        self._socket.close()


@contextlib.contextmanager
def to(address):
    """Yield what posts to an address."""
    with contextlib.closing(Transport(address)) as transport:
        yield lambda seconds=5.0: transport.post(f"{address}/v1?alt=json", {"x-key": "k"}, b"{}", seconds=seconds)


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (OK, b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + gzip.compress(b"{}", mtime=0), b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_every_kind_of_body_is_read_and_the_connection_is_new_where_it_must_be(reply, body):
    """By length, in chunks, to the end, packed; with one more request after it."""
    server = Listener([reply], [OK]) if b"1.0 200" in reply or b"close" in reply else Listener([reply, OK])
    with to(f"http://{server.address}") as post:
        assert post()[2] == body
        assert post()[2] == b"{}"
    assert server.heads[0].startswith(b"POST /v1?alt=json HTTP/1.1\r\nHost: " + server.address.encode())


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", http.client.IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", http.client.IncompleteRead),
        (b"no HTTP\r\n\r\n", http.client.BadStatusLine),
        (b"", http.client.RemoteDisconnected),
    ],
)
def test_a_reply_that_is_cut_off_is_an_error(reply, error):
    """It may have been answered and charged: it is not sent again here."""
    server = Listener([reply], [OK])
    with to(f"http://{server.address}") as post:
        with pytest.raises(error):
            post()
        assert len(server.heads) == 1
        assert post()[0] == 200


def test_a_connection_that_was_closed_meanwhile_is_not_used():
    """A request on it would be lost, and might count as charged."""
    server = Listener([OK], [OK])
    with to(f"http://{server.address}") as post:
        post()
        assert server.ended.acquire(timeout=5)
        assert post()[0] == 200
    assert len(server.heads) == 2


def test_silence_ends_at_the_deadline():
    """However long the service says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, to(f"http://127.0.0.1:{server.getsockname()[1]}") as post:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no whole reply within 0\.2 s"):
            post(seconds=0.2)
        assert time.monotonic() - began < 5


def test_a_proxy_is_told_the_address_and_who_asks(monkeypatch):
    """The whole address where the request passes through it, the host alone where it is a tunnel."""
    plain, tunnel = Listener([OK]), Listener([b"HTTP/1.1 407 Who are you?\r\n\r\n"])
    monkeypatch.setenv("HTTP_PROXY", PROXY.format(plain.address))
    monkeypatch.setenv("HTTPS_PROXY", PROXY.format(tunnel.address))
    with to("http://gemini.invalid") as post:
        assert post()[0] == 200
    refused = r"407 Who are you\? \(on the way to the proxy 127\.0\.0\.1\)"
    with to("https://gemini.invalid") as post, pytest.raises(ProxyError, match=refused):
        post()
    knows = b"Proxy-Authorization: Basic YW5hOncgcmQ="
    assert plain.heads[0].startswith(b"POST http://gemini.invalid/v1?alt=json HTTP/1.1\r\n")
    assert tunnel.heads[0].startswith(b"CONNECT gemini.invalid:443 HTTP/1")
    assert knows in plain.heads[0]
    assert knows in tunnel.heads[0]
