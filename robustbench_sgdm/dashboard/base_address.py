"""Tells a page where its server is.

Streamlit's page looks for its server first below its own address, such as `/images/_stcore/health`, and leaves errors in
the browser's console when that fails. It need not if `window.__streamlit` says where.
"""

import json
from collections.abc import Iterable

from robustbench_sgdm.dashboard.responses import App, Message, Receive, Scope, Send

_CONDITIONS = {b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"}

_SCRIPT = """<script>
{{
  const pages = {pages}, parts = location.pathname.split("/").filter(Boolean);
  if (pages.includes(parts.at(-1))) parts.pop();
  window.__streamlit = {{ BACKEND_BASE_URL: [location.origin, ...parts, ""].join("/") }};
}}
</script>"""


class BaseAddress:
    """ASGI middleware that adds a script to the HTML of pages: the server is where the page's name is taken off."""

    def __init__(self, app: App, pages: Iterable[str]) -> None:
        """Wrap an app whose pages have these names in their addresses."""
        self._app = app
        self._script = _SCRIPT.format(pages=json.dumps(sorted(pages))).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything; of a page that a browser navigates to, change the HTML."""
        headers = scope.get("headers", [])
        is_page = (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and "/_stcore/" not in scope["path"]
            and any(name == b"accept" and b"text/html" in value for name, value in headers)
        )
        if not is_page:
            await self._app(scope, receive, send)
            return
        plain = [(name, value) for name, value in headers if name not in _CONDITIONS]
        await self._app({**scope, "headers": plain}, receive, self._change(send))

    def _change(self, send: Send) -> Send:
        start: Message = {}
        parts: list[bytes] = []

        async def send_changed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                if not _is_html(message):
                    await send(message)
            elif message["type"] != "http.response.body" or not _is_html(start):
                await send(message)
            else:
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    body = b"".join(parts).replace(b"<head>", b"<head>" + self._script, 1)
                    length = (b"content-length", str(len(body)).encode())
                    kept = [h for h in start["headers"] if h[0].lower() not in (b"content-length", b"etag")]
                    await send({**start, "headers": [*kept, length]})
                    await send({**message, "body": body})

        return send_changed


def _is_html(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html")
        for name, value in start.get("headers", [])
    )
