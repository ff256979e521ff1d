"""Requests of strangers to the dashboard: answered with a refusal, and never passed on without the token."""

import asyncio
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from robustbench_sgdm.dashboard.access import AccessControl

COUNT = int(os.environ.get("ROBUSTBENCH_FUZZ", "300"))
OWN = "a token of my own"
HOSTS = (
    "localhost:8501",
    "127.0.0.1:8501",
    "[::1]:8501",
    "a.localhost",
    "evil.example",
    "[::1",
    "@",
    ":",
    "",
    "\xff",
)
PATHS = (
    "/",
    "/live",
    "//x",
    "/_stcore/upload_file/a/b",
    "/_stcore/stream",
    "/_stcore/health",
    "/\\x",
    "/\ud800",
    "/%",
)
VALUES = {
    "host": HOSTS,
    "origin": (*(f"http://{host}" for host in HOSTS), "null", "", "http://[", "//localhost:8501"),
    "cookie": (
        "robustbench_8501=1.a",
        "robustbench_8501=9999999999.",
        "robustbench_8501",
        "=;=;",
        "\xff=\x00",
        "a" * 9000,
    ),
    "content-length": ("5", "-1", "\xb2", "9" * 5000, "", "0x5"),
    "sec-fetch-site": ("same-origin", "none", "cross-site", "same-site", ""),
    "sec-fetch-mode": ("navigate", "cors"),
    "sec-fetch-dest": ("document", "iframe"),
    "accept": ("text/html", "*/*"),
}
BODIES = (
    b"",
    b"token=",
    b"token=%ff%ff",
    b"token=%ed%a0%80",
    b"&" * 4000,
    b"token=a" * 900,
    b"\x00\xff=",
    b"a=b",
)


def request(rng: random.Random) -> dict[str, Any]:
    """The scope of one."""
    names = [name for name in VALUES for _ in range(rng.choice((0, 1, 1, 2)))]
    headers = [(name.encode(), rng.choice(VALUES[name]).encode("latin-1")) for name in names]
    return {
        "type": rng.choice(("http", "http", "websocket")),
        "method": rng.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "x")),
        "path": rng.choice(PATHS),
        "query_string": rng.choice((b"", b"a=b", b"\xff\x00")),
        "headers": headers,
        "client": rng.choice(
            (("127.0.0.1", 1), ("::1", 1), ("fe80::1%eth0", 1), ("::ffff:1.2.3.4", 1), ("", 0), None)
        ),
        "server": ("127.0.0.1", 8501),
    }


async def answers(control: AccessControl, scope: dict[str, Any], body: bytes) -> list[str]:
    """The kinds of messages that a request is answered with."""
    kinds: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        kinds.append(message["type"])
        assert message.get("status", 401) != 303, "let in"

    await control(scope, receive, send)
    return kinds


def test_requests_of_strangers() -> None:
    passed: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)
        await send({"type": "passed on"})

    async def main() -> None:
        closed = AccessControl(app, token=OWN, uploads=dict, delay=0)
        free = AccessControl(app, token="", uploads=dict)
        for number in range(COUNT):
            rng = random.Random(number)
            scope, body = request(rng), rng.choice(BODIES)
            kinds = await answers(closed, scope, body)
            refused = scope["type"] == "websocket"
            assert kinds == (
                ["websocket.close"] if refused else ["http.response.start", "http.response.body"]
            )
            assert not passed, scope
            await answers(free, scope, body)
            for one in passed:
                headers = [(name, value) for name, value in one["headers"] if name in (b"host", b"origin")]
                (host,) = [value for name, value in headers if name == b"host"]
                assert host in (b"localhost:8501", b"127.0.0.1:8501", b"[::1]:8501", b"a.localhost"), one
                assert {value.rpartition(b"//")[2] for name, value in headers if name == b"origin"} <= {host}
            passed.clear()

    with ThreadPoolExecutor(1) as thread:  # a browser of other tests has a loop in this one
        thread.submit(asyncio.run, main()).result()
