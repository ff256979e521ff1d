"""Access control: middleware that checks every request before Streamlit sees it.

It checks that the request comes from the dashboard's own pages and not from another site, that the visitor knows the
token if there is one, and that uploads stay within their limits.
"""

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, quote, urlsplit

from robustbench_sgdm.core.untrusted_input import short_repr
from robustbench_sgdm.dashboard.responses import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    add_headers,
    binary_only,
    login_form,
    reject,
    require_token,
    respond,
)

SESSION_SECONDS = 12 * 3600.0
"""How long a token is remembered."""

DELAY, MAX_DELAY = 0.25, 4.0
"""Seconds before the answer to a login: the first, doubled by each wrong one, up to the second."""

FORGET_SECONDS = 600.0
"""Wrong logins before that no longer count."""

MAX_LOGINS, MAX_LOGINS_PER_ADDRESS = 32, 8
"""Logins that may wait for their answer at once: in all, which bounds guesses in any second, and from one address, so
that guesses from there do not keep others out."""

MAX_UPLOAD_MEGABYTES = 10
"""Largest file."""

MAX_MESSAGE_MEGABYTES = 1
"""Largest message of a visitor, which holds the state of a page's widgets except files."""

MAX_UPLOADS_PER_SESSION, MAX_UPLOADS = 4, 32
"""Files that are held at once, for one session and for all."""

UPLOAD_SECONDS = 120.0
"""Time limit of an upload."""

UPLOAD_FORM_BYTES = (MAX_UPLOAD_MEGABYTES + 1) * 2**20
"""Largest form with a file in it; the megabyte is Streamlit's own margin."""

_UPLOAD_PATH = "/_stcore/upload_file/"
_MAX_FORM_BYTES = 4096
_FORM_SECONDS = 10.0

_LOG = logging.getLogger(__name__)


class AccessControl:
    """ASGI middleware. Without a token, only requests to this machine's own names are answered.

    With one, a visitor who has not given it gets a login form and nothing else: no page, no file of Streamlit's, no
    websocket. The right token sets a signed cookie that scripts cannot read. It is valid for the visitor's network
    address, for `SESSION_SECONDS`, until the server stops. Right and wrong logins take equally long.

    Args:
        app: what is protected.
        token: that visitors must know; "" for none.
        uploads: returns the number of files that Streamlit holds, by session.
        delay: before the answer to the first login, s.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str,
        uploads: Callable[[], Mapping[str, int]],
        delay: float = DELAY,
    ) -> None:
        self._app = app
        self._token = _digest(token) if token else b""
        self._uploads = uploads
        self._delay = delay
        self._has_warned = False
        self._key = secrets.token_bytes(32)
        self._wrong: deque[float] = deque(maxlen=64)  # times of wrong logins
        self._pending: Counter[str] = Counter()  # logins, by address
        self._incoming: Counter[str] = Counter()  # files, by session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is rejected, pass on the rest."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        if why := self._reject_reason(scope, headers):
            await reject(scope, send, 403, why)
        elif self._token and _is_login(scope):
            await self._log_in(scope, receive, send)
        elif self._token and not self._has_valid_cookie(scope, headers):
            await require_token(scope, headers, send)
        elif scope["type"] == "http" and scope["method"] == "PUT" and _UPLOAD_PATH in scope["path"]:
            await self._receive_upload(scope, headers, receive, send)
        else:
            await self._app(scope, binary_only(receive), add_headers(send))

    def _reject_reason(self, scope: Scope, headers: Mapping[bytes, str]) -> str:
        """Why a request is rejected: it asks for another host name, or comes from another site; "" if it is fine.

        Another port is another site. Browsers say where a request comes from; other programs may lie, but those can
        do no more than their user.
        """
        host = headers.get(b"host", "").lower()
        if not self._token and not _is_local_host(host):
            return (
                "This dashboard only answers to localhost and to loopback addresses of this machine. To reach it by "
                "another name, such as a proxy's, start it with --token."
            )
        origin = headers.get(b"origin")
        site = headers.get(b"sec-fetch-site", "same-origin")
        follows_link = (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and headers.get(b"sec-fetch-mode") == "navigate"
            and headers.get(b"sec-fetch-dest") == "document"
        )
        if (origin is not None and _netloc(origin) != host) or (
            site not in ("same-origin", "none") and not follows_link
        ):
            if origin is not None:
                self._warn_once(origin, host)
            return "The request came from another site. A proxy must pass on the Host that the browser sent."
        return ""

    def _warn_once(self, origin: str, host: str) -> None:
        """Log the first rejected origin: behind a proxy that changes Host, browsers show a blank page."""
        if not self._has_warned:
            self._has_warned = True
            _LOG.warning(
                "warning: rejected a request from a page of %s to %s. If that is your proxy, make it pass on the Host "
                "that the browser sent. Otherwise, another site tried to use the dashboard. This is logged once.",
                short_repr(origin),
                short_repr(host),
            )

    def _has_valid_cookie(self, scope: Scope, headers: Mapping[bytes, str]) -> bool:
        """Whether the visitor has logged in from the same address, not too long ago."""
        name = f"{_cookie_name(scope)}="
        cookies = [part.strip() for part in headers.get(b"cookie", "").split(";")]
        return any(
            self._is_valid(cookie.removeprefix(name), _client_address(scope))
            for cookie in cookies
            if cookie.startswith(name)  # a server on another port may set one too
        )

    def _is_valid(self, cookie: str, address: str) -> bool:
        until, _, signature = cookie.partition(".")
        is_genuine = hmac.compare_digest(signature.encode(), self._sign(until, address).encode())
        return is_genuine and time.time() < int(until)

    def _sign(self, until: str, address: str) -> str:
        return hmac.new(self._key, f"{until} {address}".encode(), "sha256").hexdigest()

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a token, after a delay that grows with the wrong logins of all visitors."""
        address = _client_address(scope)
        if self._pending.total() >= MAX_LOGINS or self._pending[address] >= MAX_LOGINS_PER_ADDRESS:
            await respond(
                send,
                429,
                login_form("Too many logins at once. Try again in a few seconds."),
                [(b"retry-after", str(int(MAX_DELAY)).encode())],
            )
            return
        self._pending[address] += 1
        try:
            async with asyncio.timeout(_FORM_SECONDS):
                body = await _read_body(receive, _MAX_FORM_BYTES)
            token = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8).get("token", [""])[0]
            is_right = hmac.compare_digest(_digest(token.strip()), self._token)
            await asyncio.sleep(self._delay_seconds())
            if not is_right:
                self._wrong.append(time.monotonic())
        except (TimeoutError, ValueError):
            await respond(send, 400, login_form("The form was incomplete. Try again."))
            return
        finally:
            self._pending[address] -= 1
            if not self._pending[address]:
                del self._pending[address]
        if not is_right:
            await respond(send, 401, login_form("Wrong token."))
            return
        until = str(int(time.time() + SESSION_SECONDS))
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{_cookie_name(scope)}={until}.{self._sign(until, address)}; Path=/; HttpOnly; SameSite=Lax{secure}"
        # One slash at the front: two would send the browser to another host.
        path = "/" + quote(scope["path"].lstrip("/\\"), safe="/")
        query = scope.get("query_string", b"").decode("latin-1")
        more = [
            (b"set-cookie", cookie.encode()),
            (b"location", f"{path}{'?' * bool(query)}{query}".encode()),
        ]
        await respond(send, 303, "", more)

    def _delay_seconds(self) -> float:
        """Seconds before the answer to a login now."""
        recent = sum(time.monotonic() - at < FORGET_SECONDS for at in self._wrong)
        return min(self._delay * 2.0**recent, MAX_DELAY)

    async def _receive_upload(
        self, scope: Scope, headers: Mapping[bytes, str], receive: Receive, send: Send
    ) -> None:
        """Pass on a file if there is room for it beside those that are held or incoming."""
        from starlette.requests import ClientDisconnect

        session = scope["path"].partition(_UPLOAD_PATH)[2].partition("/")[0]
        length = headers.get(b"content-length", "")
        if not (length.isascii() and length.isdigit()) or b"transfer-encoding" in headers:
            await reject(
                scope, send, 411, "An upload needs a Content-Length header and no Transfer-Encoding."
            )
            return
        if len(length) > 12 or int(length) > UPLOAD_FORM_BYTES:
            await reject(scope, send, 413, f"The file is larger than {MAX_UPLOAD_MEGABYTES} MB.")
            return
        held = Counter(dict(self._uploads())) + self._incoming
        if held[session] >= MAX_UPLOADS_PER_SESSION or held.total() >= MAX_UPLOADS:
            limits = f"{MAX_UPLOADS_PER_SESSION} files of one visitor and {MAX_UPLOADS} of all visitors"
            await reject(scope, send, 429, f"At most {limits} are stored at once. Remove one first.")
            return
        self._incoming[session] += 1
        has_answered = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            await send(message)

        try:
            with contextlib.suppress(ClientDisconnect):  # nobody is left to answer
                async with asyncio.timeout(UPLOAD_SECONDS):
                    await self._app(scope, receive, add_headers(send_and_note))
        except TimeoutError:
            if not has_answered:
                await reject(scope, send, 408, f"The upload took longer than {UPLOAD_SECONDS:.0f} s.")
        finally:
            self._incoming[session] -= 1
            if not self._incoming[session]:
                del self._incoming[session]


def _is_login(scope: Scope) -> bool:
    """Whether this is the login form; no other POST is served, as the interface for agents is off."""
    return bool(
        scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].startswith("/_stcore/")
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("localhost"), is_loopback("[::1]"), is_loopback("127.8.8.8"), is_loopback("example")
    (True, True, True, False)
    """
    try:
        return address == "localhost" or ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False  # a host name may resolve to anything


def _is_local_host(host: str) -> bool:
    """Whether a Host header names this machine by a name that browsers resolve themselves.

    Another site can point its own name here (DNS rebinding), but never one of these.
    """
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[0-9a-z.-]+)(:[0-9]+)?", host)
    name = match[1].removesuffix(".") if match else ""
    return is_loopback(name) or name.endswith(".localhost")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _headers(scope: Scope) -> dict[bytes, str]:
    """By lower-case name. The values of a repeated header are joined, so that none is overlooked."""
    joined: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        between = "; " if name == b"cookie" else ", "
        joined[name] = f"{joined[name]}{between}{text}" if name in joined else text
    return joined


def _client_address(scope: Scope) -> str:
    """Where a request comes from; of IPv6 the /64 network, as one visitor may have all its addresses."""
    host = str((scope.get("client") or [""])[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return host if address.is_loopback else str(ipaddress.IPv6Network((int(address), 64), strict=False))


def _cookie_name(scope: Scope) -> str:
    """Contains the port, since browsers send cookies to every port of a host name."""
    return f"robustbench_{(scope.get('server') or ['', ''])[1]}"


def _digest(token: str) -> bytes:
    """Compared in place of a token, so that the time does not depend on its length."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def _read_body(receive: Receive, max_bytes: int) -> bytes:
    """A request's body.

    Raises:
        ValueError: it is too long, or the visitor has left.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ValueError("the visitor has left")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > max_bytes:
            raise ValueError("the form is too long")
    return body
