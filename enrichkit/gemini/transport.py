"""The way out: requests over HTTP as an SDK has written them, with one deadline over all of a reply.

No redirect is followed, nothing is sent again, and no library logs a request: this is below the line that would. On
this machine no proxy is between. It knows no SDK, and what a reply means is read elsewhere.

`http.client` connects and reads; a request is written here, in one piece. A full HTTP client takes three times the CPU,
and lets go of the interpreter more often, which then has to be waited for.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import os
import select
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

LATE_READS = 60
"""So often what has come is read beyond the deadline, 16 kB or more at a time: larger than any reply, yet an end."""
READ_BYTES = 65536
AT_ONCE_SECONDS = 0.001
IDLE_SECONDS = 5.0
"""So long a connection is kept for the next request."""
GZIP = b"\x1f\x8b"
PROXIES = ("http", "socks5", "socks5h")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name certificates, the first one that is set counts; SDKs, curl and requests differ in which."""


class ConnectError(ConnectionError):
    """No connection was made, so nothing was sent."""


class ProxyError(ConnectError):
    """A proxy was reached, and refuses to pass anything on."""


class Transport:
    """The connections to one address, safe to use from many threads; the one used last is the next to be taken."""

    def __init__(self, address: str) -> None:
        self._address = urlsplit(address)
        if self._address.scheme not in ("http", "https"):
            raise ValueError(f"{address} is not an address on the web")
        self._proxy = _proxy(self._address)
        self._context = _certificates() if self._address.scheme == "https" else None
        self._free: list[tuple[float, socket.socket]] = []

    def post(
        self, url: str, headers: Mapping[str, str], content: bytes, *, seconds: float
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the status of a reply, its headers by their lowercase names, and its body; raise if it is late."""
        latest = time.monotonic() + seconds
        connection = self._kept() or self._connect(seconds)
        try:
            connection.settimeout(_left(latest))
            connection.sendall(self._head(url, headers, content) + content)
            reply = http.client.HTTPResponse(_Incoming(connection, latest), method="POST")  # type: ignore[arg-type]
            reply.begin()
            body = b"".join(iter(lambda: reply.read(READ_BYTES), b""))  # whatever size its head says
            if reply.length:
                raise http.client.IncompleteRead(body, reply.length)
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no whole reply within {seconds:.3g} s") from error
            raise
        if reply.will_close:
            connection.close()
        else:
            self._free.append((time.monotonic(), connection))
        while body.startswith(GZIP):  # whatever the head says of it: it may be packed twice, or not at all
            body = gzip.decompress(body)
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, body

    def close(self) -> None:
        """Close the connections."""
        while self._free:
            self._free.pop()[1].close()

    def _kept(self) -> socket.socket | None:
        """Return a connection that is kept, and that nobody has closed meanwhile."""
        while self._free:
            try:
                used, connection = self._free.pop()
            except IndexError:  # another thread was quicker
                return None
            if time.monotonic() - used < IDLE_SECONDS and not _has_news(connection):
                return connection
            connection.close()
        return None

    def _connect(self, seconds: float) -> socket.socket:
        """Return a new connection, through the proxy if there is one."""
        host, proxy = self._address.hostname or "", self._proxy
        port = self._address.port or (443 if self._context else 80)
        way = host if proxy is None else f"the proxy {proxy.hostname}"
        first = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
        kind: Any = http.client.HTTPSConnection if self._context else http.client.HTTPConnection
        connection = kind(*first, timeout=seconds, **({"context": self._context} if self._context else {}))
        try:
            if proxy is not None and proxy.scheme.startswith("socks"):
                connection._create_connection = lambda *_: _by_socks(proxy, host, port, seconds)
                connection.host = host  # what the certificate must be for
            elif proxy is not None and self._context:
                connection.set_tunnel(host, port, _authorization(proxy))
            connection.connect()
        except Exception as error:
            connection.close()
            refused = "Tunnel connection failed" in str(error) or type(error).__name__.startswith("Proxy")
            raise (ProxyError if refused else ConnectError)(f"{error} (on the way to {way})") from error
        made: socket.socket = connection.sock
        return made

    def _head(self, url: str, headers: Mapping[str, str], content: bytes) -> bytes:
        """Return what stands before the content; a proxy that is no tunnel is told the whole address."""
        parts, more = urlsplit(url), dict[str, str]()
        target = parts._replace(scheme="", netloc="", fragment="").geturl()
        if self._proxy is not None and self._proxy.scheme == "http" and self._context is None:
            target, more = url, _authorization(self._proxy)
        netloc = parts.netloc.rpartition("@")[2]
        said = {"Host": netloc, **headers, **more, "Accept-Encoding": "gzip", "Content-Length": str(len(content))}
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")


class _Incoming(io.RawIOBase):
    """What comes in on a connection until a moment.

    What has come by then is read at any time: the process may have been stopped meanwhile, or a laptop asleep.
    """

    def __init__(self, connection: socket.socket, latest: float) -> None:
        self._connection = connection
        self._latest = latest
        self._late = self._reads = 0

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, READ_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._late += time.monotonic() > self._latest
        if self._late > LATE_READS:
            raise TimeoutError
        if self._reads:  # until the first read, the one of the sending stands
            self._connection.settimeout(_left(self._latest))
        self._reads += 1
        return self._connection.recv_into(buffer)


def _left(latest: float) -> float:
    return max(AT_ONCE_SECONDS, latest - time.monotonic())


def _has_news(connection: socket.socket) -> bool:
    """Whether something has come on a connection on which nothing was asked: most likely its end."""
    if not hasattr(select, "poll"):
        return bool(select.select([connection], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _proxy(address: SplitResult) -> SplitResult | None:
    """Return the proxy that the environment names for an address; none on this machine."""
    proxies = urllib.request.getproxies()
    named = proxies.get(address.scheme) or proxies.get("all")
    if not named or is_loopback(address.geturl()) or urllib.request.proxy_bypass(address.hostname or ""):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme not in PROXIES:
        raise ValueError(f"there is no proxy of the kind {proxy.scheme!r}; it may be {', '.join(PROXIES)}")
    if proxy.port is None and proxy.scheme != "http":
        raise ValueError(f"the proxy {proxy.hostname} has no port")
    if proxy.scheme.startswith("socks"):
        import python_socks  # noqa: F401 - else only the first request would say that it is missing
    return proxy


def _authorization(proxy: SplitResult) -> dict[str, str]:
    """Return the header by which a proxy knows who asks."""
    known = ":".join(unquote(part or "") for part in (proxy.username, proxy.password))
    return {"Proxy-Authorization": f"Basic {base64.b64encode(known.encode()).decode()}"} if known != ":" else {}


def _by_socks(proxy: SplitResult, host: str, port: int, seconds: float) -> socket.socket:
    """Return a connection through a SOCKS proxy, which looks up the host itself."""
    from python_socks.sync import Proxy

    url = proxy._replace(scheme="socks5").geturl()
    made: socket.socket = Proxy.from_url(url, rdns=True).connect(dest_host=host, dest_port=port, timeout=seconds)
    return made


def _certificates() -> ssl.SSLContext:
    """Return the certificates that are trusted: those that the environment names, else the system's."""
    path = next(filter(None, map(os.environ.get, CERTIFICATES)), None)
    if path is None:
        import httpx2

        default: ssl.SSLContext = httpx2.create_ssl_context()
        return default
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    folder = os.path.isdir(path.partition(os.pathsep)[0])
    context.load_verify_locations(cafile=None if folder else path, capath=path if folder else None)
    return context
