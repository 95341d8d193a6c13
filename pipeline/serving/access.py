"""Which requests the local page accepts: for its own host name, from its own pages, so many a second."""

import ipaddress
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_CLIENTS = 4096
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Gate:
    """An ASGI application around another: refuses requests for another host name or of another site's page with 403.

    A web page anywhere can have the browser send requests to this machine. It cannot choose their Host and Origin,
    which hold its own name, even if that name is made to point here (DNS rebinding). Every answer gets `HEADERS`.
    """

    def __init__(self, app: ASGIApp, host: str):
        self._app, self._names = app, {*LOOPBACK, host.strip("[]").lower()}
        self._any_address = is_wildcard(host)
        if self._any_address:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        answer = JSONResponse({"detail": refusal}, 403) if refusal else self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._knows(host):
            return f"this page is not called {host[:80]!r}; open it by the address that make serve printed"
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get("origin")
        same_site = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if same_site and (origin is None or origin.lower().partition("://")[2] == host.lower()):
            return None
        return "the request comes from another site's page; only this page and programs may send images"

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_wildcard(host: str) -> bool:
    """Return whether listening at `host` is listening at every address of the machine."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def is_loopback(host: str) -> bool:
    """Return whether `host` can be reached from this machine alone."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


class Buckets:
    """A token bucket per client: `burst` requests at once, refilled by `rate` a second.

    The last clients are remembered; a client that was forgotten has a full bucket again.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._clock = rate, max(1.0, burst), clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> int:
        """Return 0 and count the request if it is accepted, else the whole seconds until one is accepted."""
        now = self._clock()
        tokens, before = self._clients.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + self._rate * (now - before))
        is_accepted = tokens >= 1
        self._clients[client] = (tokens - is_accepted, now)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        return 0 if is_accepted else max(1, math.ceil((1 - tokens) / self._rate))


def matches(content_type: str, accepted: Iterable[str]) -> bool:
    """Return whether a Content-Type is accepted; `image/*` accepts any image's."""
    kind = content_type.partition(";")[0].strip().lower()
    family, _, rest = kind.partition("/")
    return bool(rest) and any(one in (kind, f"{family}/*") for one in accepted)
