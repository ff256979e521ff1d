"""Who may ask the dashboard for anything: middleware that every request passes before Streamlit sees it.

It asks three questions. Is the request made of this dashboard's own pages, or of another site's? Does the visitor
know the token, where there is one? Is there room for the file that is sent?
"""

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from robustbench_sgdm.cli.console import info
from robustbench_sgdm.core.untrusted_input import short_repr

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VISIT = 12 * 3600.0  # s
"""How long a visitor who gave the token is known."""

DELAY, LONGEST_DELAY = 0.25, 4.0  # s
"""Before the answer to an attempt at the token: the first doubles with each wrong one, up to the second."""

FORGET = 600.0  # s
"""After which a wrong attempt no longer delays others."""

WAITING, WAITING_OF_ONE = 32, 8
"""Attempts at the token that may wait for their answer at once: in all, so that guesses are few in any second,
and from one address, so that who guesses there leaves places for others."""

UPLOAD_MEGABYTES = 10
"""Largest file that is taken."""

MESSAGE_MEGABYTES = 1
"""Largest message of a visitor, which holds what the widgets of a page hold, but files."""

UPLOADS_OF_VISIT, UPLOADS = 4, 32
"""Files that are held at once for one visit and for all visits."""

UPLOAD_TIME = 120.0  # s
"""In which a file must have arrived."""

_MEGABYTE = 2**20
_ROOM = _MEGABYTE  # for what a form adds to the file in it; Streamlit's own margin
LONGEST_UPLOAD = UPLOAD_MEGABYTES * _MEGABYTE + _ROOM
"""Bytes of the form that a file comes in."""

_UPLOAD = "/_stcore/upload_file/"
_LONGEST_FORM = 4096  # bytes
_FORM_TIME = 10.0  # s

_HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'self'"),  # no other page can have its visitors click here
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_FORM = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>RobustBench-SGDM</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
input, button {{ font: inherit; padding: .5rem .75rem; box-sizing: border-box; width: 100%; margin-top: .5rem; }}
</style>
</head>
<body>
<main>
<h1>RobustBench-SGDM</h1>
<form method="post">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
 aria-describedby="help">
<p id="help">It is printed where the dashboard was started.</p>
<button>Enter</button>
<p role="alert">{}</p>
</form>
</main>
</body>
</html>
"""
_FORM_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'"
)


class AccessControl:
    """ASGI middleware. Without a token only this machine's names are answered; with one, only who gave it.

    A visitor without the token gets a form and nothing else: no page, no file of Streamlit's, no websocket. The right
    token sets a cookie that scripts cannot read, for the address that it came from, for `VISIT` seconds, until the
    server stops. The answer to a right and to a wrong attempt takes equally long.

    Args:
        app: what is protected.
        token: what visitors must know; "" lets in everybody who calls the server by a name of this machine.
        uploads: the number of files that Streamlit holds, by visit.
        delay: before the answer to the first attempt at the token, s.
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
        self._has_told = False
        self._key = secrets.token_bytes(32)
        self._wrong: deque[float] = deque(maxlen=64)  # times of wrong attempts
        self._waiting: Counter[str] = Counter()  # attempts, by address
        self._arriving: Counter[str] = Counter()  # files, by visit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused, pass on the rest."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        if why := self._foreign(scope, headers):
            await _refuse(scope, send, 403, why)
        elif self._token and _is_attempt(scope):
            await self._attempt(scope, receive, send)
        elif self._token and not self._is_known(scope, headers):
            await _ask(scope, headers, send)
        elif scope["type"] == "http" and scope["method"] == "PUT" and _UPLOAD in scope["path"]:
            await self._upload(scope, headers, receive, send)
        else:
            await self._app(scope, _bytes_alone(receive), _with_headers(send))

    def _foreign(self, scope: Scope, headers: Mapping[bytes, str]) -> str:
        """Why a request is none of this dashboard's pages or addresses; "" if it is one.

        Another port is another site. Browsers say where a request comes from; other programs need not, and could
        lie.
        """
        host = headers.get(b"host", "").lower()
        if not self._token and not _is_this_machine(host):
            return (
                "This dashboard answers to localhost and to addresses of this machine alone, not to another "
                "name. Start it with --token to reach it by one, such as a proxy's."
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
                self._tell(origin, host)
            return "Another site's page asked for this. A proxy must pass on the Host that the browser sent."
        return ""

    def _tell(self, origin: str, host: str) -> None:
        """Say once that another origin was refused: behind a proxy that changes Host a browser shows a blank page."""
        if not self._has_told:
            self._has_told = True
            info(
                f"warning: refused a page of {short_repr(origin)} that asked {short_repr(host)}. If that is your "
                "proxy, let it "
                "pass on the Host that the browser sent; else another site's page tried. It is not said again."
            )

    def _is_known(self, scope: Scope, headers: Mapping[bytes, str]) -> bool:
        """Whether the visitor gave the token, not too long ago, from the same address."""
        name = f"{_cookie_name(scope)}="
        cookies = [part.strip() for part in headers.get(b"cookie", "").split(";")]
        return any(
            self._is_ours(cookie.removeprefix(name), _address(scope))
            for cookie in cookies
            if cookie.startswith(name)  # several, where a server on another port sets one too
        )

    def _is_ours(self, cookie: str, address: str) -> bool:
        until, _, seal = cookie.partition(".")
        genuine = hmac.compare_digest(seal.encode(), self._seal(until, address).encode())
        return genuine and time.time() < int(until)

    def _seal(self, until: str, address: str) -> str:
        return hmac.new(self._key, f"{until} {address}".encode(), "sha256").hexdigest()

    async def _attempt(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a visitor in who sends the token, after a delay that grows with the wrong attempts of all visitors."""
        address = _address(scope)
        if self._waiting.total() >= WAITING or self._waiting[address] >= WAITING_OF_ONE:
            await _answer(
                send, 429, _form("Too many attempts at once. Try again in a few seconds."), retry=True
            )
            return
        self._waiting[address] += 1
        try:
            async with asyncio.timeout(_FORM_TIME):
                body = await _body(receive, _LONGEST_FORM)
            given = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8).get("token", [""])[0]
            right = hmac.compare_digest(_digest(given.strip()), self._token)
            await asyncio.sleep(self._pause())
            if not right:
                self._wrong.append(time.monotonic())
        except (TimeoutError, ValueError):
            await _answer(send, 400, _form("The form did not arrive whole. Try again."))
            return
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]
        if not right:
            await _answer(send, 401, _form("That is not the token."))
            return
        until = str(int(time.time() + VISIT))
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{_cookie_name(scope)}={until}.{self._seal(until, address)}; Path=/; HttpOnly; SameSite=Lax{secure}"
        # One slash at the front: with two a browser would go to another host.
        place = "/" + quote(scope["path"].lstrip("/\\"), safe="/")
        query = scope.get("query_string", b"").decode("latin-1")
        more = [
            (b"set-cookie", cookie.encode()),
            (b"location", f"{place}{'?' * bool(query)}{query}".encode()),
        ]
        await _answer(send, 303, "", more)

    def _pause(self) -> float:
        """Seconds before the answer to an attempt now."""
        recent = sum(time.monotonic() - at < FORGET for at in self._wrong)
        return min(self._delay * 2.0**recent, LONGEST_DELAY)

    async def _upload(self, scope: Scope, headers: Mapping[bytes, str], receive: Receive, send: Send) -> None:
        """Pass on a file if there is room for it among those that are held or arrive."""
        from starlette.requests import ClientDisconnect

        visit = scope["path"].partition(_UPLOAD)[2].partition("/")[0]
        length = headers.get(b"content-length", "")
        if not (length.isascii() and length.isdigit()) or b"transfer-encoding" in headers:
            await _refuse(scope, send, 411, "The length of a file must be said before it is sent.")
            return
        if len(length) > 12 or int(length) > LONGEST_UPLOAD:
            await _refuse(scope, send, 413, f"A file of more than {UPLOAD_MEGABYTES} MB is not taken.")
            return
        held = Counter(dict(self._uploads())) + self._arriving
        if held[visit] >= UPLOADS_OF_VISIT or held.total() >= UPLOADS:
            text = f"{UPLOADS_OF_VISIT} files of one visit and {UPLOADS} of all are held at once. Remove one first."
            await _refuse(scope, send, 429, text)
            return
        self._arriving[visit] += 1
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            with contextlib.suppress(ClientDisconnect):  # nobody is left to answer
                async with asyncio.timeout(UPLOAD_TIME):
                    await self._app(scope, receive, _with_headers(noted))
        except TimeoutError:
            if not answered:
                await _refuse(scope, send, 408, f"The file did not arrive within {UPLOAD_TIME:.0f} s.")
        finally:
            self._arriving[visit] -= 1
            if not self._arriving[visit]:
                del self._arriving[visit]


def _is_attempt(scope: Scope) -> bool:
    """Whether the form is sent; only the agents' interface, which is off, takes other POSTs."""
    return bool(
        scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].startswith("/_stcore/")
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach what listens at an address.

    >>> is_loopback("localhost"), is_loopback("[::1]"), is_loopback("127.8.8.8"), is_loopback("example")
    (True, True, True, False)
    """
    try:
        return address == "localhost" or ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False  # a name can stand for anything


def _is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine: browsers ask no name server about these.

    A page of another site can have its own name lead here, but not be called by one of these.
    """
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[0-9a-z.-]+)(:[0-9]+)?", host)
    name = found[1].removesuffix(".") if found else ""
    return is_loopback(name) or name.endswith(".localhost")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _headers(scope: Scope) -> dict[bytes, str]:
    """By lower name. Of one that came twice the values are joined, so that neither is overlooked."""
    joined: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        between = "; " if name == b"cookie" else ", "
        joined[name] = f"{joined[name]}{between}{text}" if name in joined else text
    return joined


def _address(scope: Scope) -> str:
    """Where a request comes from; of IPv6 the network, of which one visitor may have every address."""
    host = str((scope.get("client") or [""])[0])
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv4Address):
        return host
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), 64), strict=False)) if not found.is_loopback else host


def _cookie_name(scope: Scope) -> str:
    """Of this server: browsers send cookies to every port of a name."""
    return f"robustbench_{(scope.get('server') or ['', ''])[1]}"


def _digest(token: str) -> bytes:
    """What is compared in place of a token, so that its length takes no time either."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def _body(receive: Receive, most: int) -> bytes:
    """A request's body.

    Raises:
        ValueError: it is longer than `most` bytes, or the visitor left.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ValueError("the visitor left")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise ValueError("the form is too long")
    return body


async def _ask(scope: Scope, headers: Mapping[bytes, str], send: Send) -> None:
    """The form, where a page is asked for; else no more than that the token is needed."""
    if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get(b"accept", ""):
        await _answer(send, 401, _form(""))
    else:
        await _refuse(scope, send, 401, "The token is needed. Open the dashboard in a browser to give it.")


def _form(alert: str) -> str:
    return _FORM.format(alert)


async def _refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text[:100]})
    else:
        await _answer(send, status, f"{text}\n", [], b"text/plain; charset=utf-8")


async def _answer(
    send: Send,
    status: int,
    text: str,
    more: list[tuple[bytes, bytes]] | None = None,
    kind: bytes = b"text/html; charset=utf-8",
    *,
    retry: bool = False,
) -> None:
    body = text.encode()
    headers = [(name, value) for name, value in _HEADERS if name != b"content-security-policy"]
    headers += [(b"content-security-policy", _FORM_POLICY), (b"cache-control", b"no-store")]
    headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *(more or [])]
    headers += [(b"retry-after", str(int(LONGEST_DELAY)).encode())] * retry
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bytes_alone(receive: Receive) -> Receive:
    """End a websocket that sends text, at which Streamlit fails."""

    async def receive_bytes() -> Message:
        message = await receive()
        is_text = message["type"] == "websocket.receive" and message.get("bytes") is None
        return {"type": "websocket.disconnect", "code": 1003} if is_text else message

    return receive_bytes


def _with_headers(send: Send) -> Send:
    """Add what keeps other sites from framing and reading the answers."""

    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name for name, _ in _HEADERS}
            theirs = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
            message = {**message, "headers": [*theirs, *_HEADERS]}
        await send(message)

    return send_all
