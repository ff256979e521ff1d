"""ASGI requests and responses of the dashboard's access control."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'self'"),  # against clickjacking
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_FORM_HTML = """<!DOCTYPE html>
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


async def require_token(scope: Scope, headers: Mapping[bytes, str], send: Send) -> None:
    """Answer with the login form if a page is requested, else with an error."""
    if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get(b"accept", ""):
        await respond(send, 401, login_form(""))
    else:
        await reject(scope, send, 401, "A token is needed. Open the dashboard in a browser to enter it.")


def login_form(alert: str) -> str:
    """The page that asks for the token; `alert` is HTML of ours."""
    return _FORM_HTML.format(alert)


async def reject(scope: Scope, send: Send, status: int, text: str) -> None:
    """Answer with an error, or close a websocket before it opens."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text[:100]})
    else:
        await respond(send, status, f"{text}\n", [], b"text/plain; charset=utf-8")


async def respond(
    send: Send,
    status: int,
    text: str,
    more: list[tuple[bytes, bytes]] | None = None,
    kind: bytes = b"text/html; charset=utf-8",
) -> None:
    """Answer with a text, by default HTML, that no cache stores; `more` are headers."""
    body = text.encode()
    headers = [(name, value) for name, value in _HEADERS if name != b"content-security-policy"]
    headers += [(b"content-security-policy", _FORM_POLICY), (b"cache-control", b"no-store")]
    headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def binary_only(receive: Receive) -> Receive:
    """Close a websocket that sends text, on which Streamlit fails."""

    async def receive_bytes() -> Message:
        message = await receive()
        is_text = message["type"] == "websocket.receive" and message.get("bytes") is None
        return {"type": "websocket.disconnect", "code": 1003} if is_text else message

    return receive_bytes


def add_headers(send: Send) -> Send:
    """Add headers that keep other sites from framing and reading the answers."""

    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name for name, _ in _HEADERS}
            theirs = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
            message = {**message, "headers": [*theirs, *_HEADERS]}
        await send(message)

    return send_all
