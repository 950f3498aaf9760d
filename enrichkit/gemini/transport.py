"""The way out: requests over HTTP as an SDK has written them, with one deadline over all of a reply.

No redirect is followed, nothing is sent again, and no library logs a request: this is below the line that would. On
this machine no proxy is between. It knows no SDK, and what a reply means is read elsewhere.
"""

from __future__ import annotations

import functools
import gzip
import os
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import httpcore2

LATE_READS = 60
"""So often what has come is read beyond the deadline, 16 kB or more at a time: larger than any reply, yet an end."""
AT_ONCE_SECONDS = 0.001
IDLE_SECONDS = 5.0
"""So long a connection is kept for the next request."""
GZIP = b"\x1f\x8b"
PROXIES = ("http", "https", "socks5", "socks5h")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name certificates, the first one that is set counts; SDKs, curl and requests differ in which."""


class Transport:
    """The connections to one address, safe to use from many threads.

    Each is a pool of its own, and the one used last is the next to be taken: a pool of many looks at all of them for
    every request, which at a thousand costs more than the request.
    """

    def __init__(self, address: str) -> None:
        import httpcore2

        proxy = _proxy(address)
        network: Any = _Deadlines(httpcore2.SyncBackend())
        self._way = f"the proxy {proxy.url.host.decode()}" if proxy else str(urlsplit(address).hostname)
        self._connect = functools.partial(
            httpcore2.ConnectionPool,
            ssl_context=_certificates() if urlsplit(address).scheme == "https" else None,
            proxy=proxy,
            max_connections=1,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=network,
        )
        self._free: list[httpcore2.ConnectionPool] = []

    def post(
        self, url: str, headers: Mapping[str, str], content: bytes, *, seconds: float
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the status of a reply, its headers by their lowercase names, and its body; raise if it is late."""
        import httpcore2

        latest = time.monotonic() + seconds
        timeout = {"connect": latest, "read": latest, "write": latest}
        sent = [*headers.items(), ("Accept-Encoding", "gzip")]
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._connect()
        try:
            reply = connection.request("POST", url, headers=sent, content=content, extensions={"timeout": timeout})
        except (httpcore2.ReadTimeout, TimeoutError) as error:
            raise TimeoutError(f"no whole reply within {seconds:.3g} s") from error
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise type(error)(f"{error} (on the way to {self._way})") from error
        finally:
            self._free.append(connection)
        body = reply.content
        facts = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reply.headers}
        while body.startswith(GZIP):  # whatever the head says of it: it may be packed twice, or not at all
            body = gzip.decompress(body)
        return reply.status, facts, body

    def close(self) -> None:
        """Close the connections."""
        while self._free:
            self._free.pop().close()


class _Deadlines:
    """A network, or a connection of it, of which a timeout is a moment: the one until which everything may take.

    What has come by then is read at any time: the process may have been stopped meanwhile, or a laptop asleep.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._late = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def connect_tcp(self, host: str, port: int, timeout: float, **more: Any) -> _Deadlines:
        return _Deadlines(self._stream.connect_tcp(host, port, _left(timeout), **more))

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None, timeout: float) -> _Deadlines:
        return _Deadlines(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def read(self, max_bytes: int, timeout: float) -> bytes:
        self._late += time.monotonic() > timeout
        if self._late > LATE_READS:
            raise TimeoutError
        data: bytes = self._stream.read(max_bytes, _left(timeout))
        return data

    def write(self, buffer: bytes, timeout: float) -> None:
        self._late = 0
        self._stream.write(buffer, _left(timeout))


def _left(latest: float) -> float:
    return max(AT_ONCE_SECONDS, latest - time.monotonic())


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _proxy(address: str) -> Any:
    """Return the proxy that the environment names for an address; none on this machine."""
    import httpcore2

    parts, proxies = urlsplit(address), urllib.request.getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named or is_loopback(address) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme not in PROXIES:
        raise ValueError(f"there is no proxy of the kind {proxy.scheme!r}; it may be {', '.join(PROXIES)}")
    if proxy.scheme.startswith("socks"):
        import socksio  # noqa: F401 - else only the first request would say that it is missing
    auth = [unquote(part or "").encode() for part in (proxy.username, proxy.password)]
    return httpcore2.Proxy(proxy.geturl(), auth=(auth[0], auth[1]) if any(auth) else None)


def _certificates() -> ssl.SSLContext:
    """Return the certificates that are trusted: those that the environment names, else the system's."""
    import httpcore2

    path = next(filter(None, map(os.environ.get, CERTIFICATES)), None)
    if path is None:
        return httpcore2.default_ssl_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    folder = os.path.isdir(path.partition(os.pathsep)[0])
    context.load_verify_locations(cafile=None if folder else path, capath=path if folder else None)
    return context
