"""Pages learn where their server is; everything else passes unchanged."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from robustbench_sgdm.dashboard.base_address import BaseAddress

HTML = b"<html><head><title>x</title></head></html>"


def answer(kind: bytes, body: list[bytes], **scope: Any) -> list[Any]:
    """What arrives of an answer in these parts; the app sees the headers that are left."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append([name for name, _ in scope["headers"]])
        headers = [(b"content-type", kind), (b"content-length", b"%d" % sum(map(len, body))), (b"etag", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(body):
            more = number + 1 < len(body)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async def send(message: Any) -> None:
        sent.append(message)

    request = {"type": "http", "method": "GET", "path": "/images", "headers": [(b"accept", b"text/html,*/*")]}
    asked = BaseAddress(app, ["runs", "images"])

    def call() -> None:
        asyncio.run(asked(request | scope, None, send))  # type: ignore[arg-type]

    with ThreadPoolExecutor(1) as threads:  # in this one the loop of a browser of other tests may run
        threads.submit(call).result()
    return sent


def test_the_html_of_a_page_says_where_the_server_is() -> None:
    seen, start, body = answer(
        b"text/html; charset=utf-8",
        [HTML[:9], HTML[9:]],
        headers=[(b"accept", b"text/html"), (b"accept-encoding", b"gzip")],
    )
    text = body["body"].decode()
    assert seen == [b"accept"] and re.match(r"<html><head><script>.*</script><title>", text, re.S)
    assert '["images", "runs"]' in text and not body["more_body"]
    assert dict(start["headers"]) == {
        b"content-type": b"text/html; charset=utf-8",
        b"content-length": str(len(text)).encode(),
    }


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        (b"application/json", {}),
        (b"text/html", {"method": "HEAD"}),
        (b"text/html", {"path": "/_stcore/health"}),
        (b"text/html", {"headers": [(b"accept", b"*/*"), (b"accept-encoding", b"gzip")]}),
    ],
)
def test_everything_else_passes_unchanged(kind: bytes, scope: dict[str, Any]) -> None:
    _, start, *parts = answer(kind, [HTML[:9], HTML[9:]], **scope)
    assert b"".join(part["body"] for part in parts) == HTML and (b"etag", b"1") in start["headers"]
