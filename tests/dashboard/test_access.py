"""Who gets anything from the dashboard: a real server, asked as browsers and as guessers do."""

import asyncio
import http.client
import os
import re
import shutil
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import TOKEN_VARIABLE
from robustbench_sgdm.dashboard import access
from robustbench_sgdm.store import Run
from tests.support.synthetic_runs import rewrite

serving = resources.import_file(resources.root() / "benchmarks/support/serving.py")

OWN = "tr\u00fce token of my own"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
STREAM = "/_stcore/stream"
READ_FILES = """
import os, sys
def note(event, arguments, place=os.environ["READ_FILES"]):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        name = os.fsdecode(arguments[0])
        if name.endswith((".pt", ".safetensors", ".png")):
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a") as log:
                log.write(name + chr(10))
sys.addaudithook(note)
"""


@dataclass
class Server:
    """A dashboard: where it listens, its process, and the cookie of a visitor who gave the token."""

    port: int
    process: psutil.Process
    read_files: Path
    words: Callable[[], str]
    cookie: Mapping[str, str] = field(default_factory=dict)

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        source: str = "127.0.0.1",
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers by lower name, body."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0)
        )
        given = {"Host": f"localhost:{self.port}", **(headers or {})}
        try:
            connection.request(
                method, path, body, given, encode_chunked=not isinstance(body, bytes | str | None)
            )
            answer = connection.getresponse()
            text = answer.read() if answer.status != 101 else b""
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        finally:
            connection.close()

    def give(
        self, token: str, path: str = "/", source: str = "127.0.0.1"
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send the form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask(path, "POST", kind, urllib.parse.urlencode({"token": token}), source)

    def enter(self) -> None:
        """Give the token and keep the cookie."""
        self.cookie = {"Cookie": self.give(OWN)[1]["set-cookie"].partition(";")[0]}

    def upload_headers(self) -> dict[str, str]:
        """Of a form with a file whose parts are divided by `x`."""
        cookie = self.ask("/_stcore/health", headers=self.cookie)[1]["set-cookie"].partition(";")[0]
        return {
            "Content-Type": "multipart/form-data; boundary=x",
            "X-Xsrftoken": cookie.partition("=")[2],
            "Cookie": "; ".join(filter(None, (cookie, self.cookie.get("Cookie")))),
        }

    def theirs(self) -> set[str]:
        """The kinds of files that were read and that the run names."""
        read = self.read_files.read_text().splitlines() if self.read_files.exists() else []
        return {Path(name).suffix for name in read if "complete-images" in name or name.endswith(".pt")}

    def visit(self, page: str = "", **query: str) -> "Visit":
        return Visit(self, page, urllib.parse.urlencode(query))


class Visit:
    """A websocket as Streamlit's pages open it, at the address of a page; its messages until the script ended."""

    def __init__(self, server: Server, page: str, query: str) -> None:
        local = f"localhost:{server.port}"
        self._opening = connect(
            f"ws://{local}{STREAM}",
            origin=Origin(f"http://{local}"),
            additional_headers=server.cookie,
            max_size=None,
            subprotocols=[Subprotocol("streamlit")],
        )
        self._asked = BackMsg()
        self._asked.rerun_script.page_name = page
        self._asked.rerun_script.query_string = query
        self.id = self.text = ""

    def __enter__(self) -> "Visit":
        self.socket = self._opening.__enter__()
        self.socket.send(self._asked.SerializeToString())
        kind: str | None = ""
        while kind != "script_finished":
            message = ForwardMsg.FromString(cast(bytes, self.socket.recv(timeout=200)))
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.id = message.new_session.initialize.session_id
            self.text += str(message) if kind == "delta" else ""
        return self

    def __exit__(self, *_: object) -> None:
        self._opening.__exit__(None, None, None)


def serve(project: Path, folder: Path, *words: str, **environment: str) -> Iterator[Server]:
    (folder / "sitecustomize.py").write_text(READ_FILES)
    paths = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    more = {"PYTHONPATH": paths, "READ_FILES": str(folder / "read"), **environment}
    started = serving.Serving(project, *words, environment=more)
    with started as (address, process):
        port = int(address.rpartition(":")[2])
        yield Server(port, psutil.Process(process.pid), folder / "read", started.words)
        assert "Traceback" not in started.words()


@pytest.fixture(scope="module")
def named(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run whose models name weights of their own."""
    folder = tmp_path_factory.mktemp("named")
    path = shutil.copytree(project / "complete", folder / "theirs")
    sizes = {"imgsz": 64, "conf": 0.001, "iou": 0.7, "max_det": 300}
    run = Run.open(path)
    rewrite(run, models={m: {"weights": str(folder / f"{m}.pt"), **sizes} for m in run.manifest.models})
    for model in run.manifest.models:
        (folder / f"{model}.pt").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="module")
def guarded(named: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for server in serve(named, tmp_path_factory.mktemp("guarded"), "--token", **{TOKEN_VARIABLE: OWN}):
        server.enter()
        yield server


@pytest.fixture(scope="module")
def free(named: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(named, tmp_path_factory.mktemp("free"))


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/live",
            "/images?run=theirs",
            "//",
            "/_stcore/health",
            "/_stcore/host-config",
            "/_stcore/metrics",
        ),
        *(
            "/_stcore/agent/openapi.json",
            "/_stcore/bidi-components/robustbench_viewer/viewer.js",
            "/media/a.csv",
        ),
        *("/component/a/index.html", "/static/js/index.js", "/app/static/a", "/favicon.png", "/index.html"),
    ],
)
def test_before_the_token_there_is_a_form_and_nothing_else(guarded: Server, path: str) -> None:
    for accept, sign in (("text/html", b'name="token"'), ("*/*", b"token is needed")):
        status, headers, body = guarded.ask(path, headers={"Accept": accept})
        assert status == 401 and sign in body and b"treamlit" not in body and "set-cookie" not in headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_before_the_token_nothing_is_taken(guarded: Server, method: str) -> None:
    """Not of a visit that exists either: its number is no secret of the browser's alone."""
    with guarded.visit() as visit:
        path = f"/_stcore/upload_file/{visit.id}/1"
        assert guarded.ask(path, method, body=b"x" * 1000)[0] == 401
        assert guarded.ask(path, "POST", body=b"token=x")[0] == 401


def test_before_the_token_no_websocket_opens(guarded: Server) -> None:
    assert guarded.ask(STREAM, headers=HANDSHAKE)[0] == 403
    assert guarded.ask(STREAM, headers={**HANDSHAKE, **guarded.cookie})[0] == 101


def test_the_token_opens_the_page_that_was_asked_for(guarded: Server) -> None:
    status, headers, _ = guarded.give(OWN, "/images?run=theirs&image=3")
    assert (status, headers["location"]) == (303, "/images?run=theirs&image=3")
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Lax" in headers["set-cookie"]
    status, headers, body = guarded.ask("/images", headers=guarded.cookie)
    assert (
        status == 200
        and b"treamlit" in body
        and "frame-ancestors 'self'" in headers["content-security-policy"]
    )
    for path in ("//elsewhere.example/x", "/\\elsewhere.example/x", "///elsewhere.example"):
        place = guarded.give(OWN, path)[1]["location"]
        assert not urllib.parse.urlsplit(place.replace("\\", "/")).netloc


def test_a_cookie_is_nothing_elsewhere_or_changed(guarded: Server) -> None:
    name, _, value = guarded.cookie["Cookie"].partition("=")
    until, _, seal = value.partition(".")
    later = str(int(until) + 1)
    for wrong in (f"{later}.{seal}", f"{until}.{seal[:-1]}x", until, "", f"{until}.", f"x.{seal}", "\xff"):
        assert guarded.ask("/", headers={"Cookie": f"{name}={wrong}"})[0] == 401
    assert guarded.ask("/", headers={"Cookie": f"other_{name}={value}"})[0] == 401
    assert guarded.ask("/", headers=guarded.cookie, source="127.0.0.2")[0] == 401
    lied = {**guarded.cookie, "X-Forwarded-For": "127.0.0.1"}
    assert guarded.ask("/", headers=lied, source="127.0.0.2")[0] == 401
    tossed = {"Cookie": f"{name}=of another port; {name}={value}"}
    assert guarded.ask("/", headers=tossed)[0] == 200


def test_nothing_that_is_started_knows_the_token(guarded: Server) -> None:
    """Neither the environment nor a command line has it, and no descriptor stays open for it."""
    every = [guarded.process, *guarded.process.children(recursive=True)]
    for process in every:
        assert OWN not in " ".join(process.cmdline()) and TOKEN_VARIABLE not in process.environ()
    before = psutil.Process(os.getpid()).environ()
    assert TOKEN_VARIABLE not in before
    if sys.platform == "linux":
        (number,) = [
            w.rpartition("token=")[2].rstrip(")") for w in guarded.process.cmdline() if "token=" in w
        ]
        entry = Path(f"/proc/{guarded.process.pid}/fd/{number}")
        assert not entry.exists() or not str(entry.readlink()).startswith("pipe:")


def test_the_address_with_a_token_has_a_name_of_its_own(guarded: Server) -> None:
    """Browsers give a cookie to every port of a name, so to servers of others; this name they do not know."""
    (name,) = re.findall(r"http://([0-9a-f]{12})\.localhost:", guarded.words())
    assert name not in " ".join(guarded.process.cmdline())
    assert guarded.ask("/", headers={"Host": f"{name}.localhost:{guarded.port}", **guarded.cookie})[0] == 200


@pytest.mark.parametrize(
    ("host", "origin", "answer"),
    [
        ("localhost:{port}", None, True),
        ("localhost:{port}", "http://localhost:{port}", True),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", True),
        ("[::1]:{port}", "http://[::1]:{port}", True),
        ("localhost:9000", "http://localhost:9000", True),  # through a tunnel
        ("mine.localhost:{port}", "http://mine.localhost:{port}", True),
        ("localhost:{port}", "http://localhost:8000", False),
        ("localhost:{port}", "http://localhost", False),
        ("localhost:{port}", "http://127.0.0.1:{port}", False),
        ("127.0.0.1:{port}", "http://localhost:{port}", False),
        ("[::1]:{port}", "http://localhost:{port}", False),
        ("localhost:{port}", "http://0.0.0.0:{port}", False),
        ("localhost:{port}", "null", False),
        ("localhost:{port}", "http://evil.example", False),
        ("localhost:{port}", "http://localhost:{port}.evil.example", False),
        ("localhost:{port}", "http://evil.example@localhost:8000", False),
        ("evil.example:{port}", "http://evil.example:{port}", False),
        ("evil.example:{port}", None, False),
        ("localhost.evil.example:{port}", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("", None, False),
    ],
)
def test_another_port_or_name_is_another_site(
    free: Server, host: str, origin: str | None, answer: bool
) -> None:
    """The websocket and every file of the server, each by Host and Origin."""
    headers = {"Host": host.format(port=free.port)}
    headers |= {"Origin": origin.format(port=free.port)} if origin else {}
    assert free.ask(STREAM, headers={**HANDSHAKE, **headers})[0] == (101 if answer else 403)
    assert free.ask("/_stcore/health", headers=headers)[0] == (200 if answer else 403)


def test_a_proxy_that_changes_host_is_told_of(free: Server) -> None:
    """Once: browsers show a blank page there."""
    headers = {"Host": f"localhost:{free.port}", "Origin": "http://\x1bproxy.example"}
    for _ in range(3):
        assert free.ask("/_stcore/health", headers=headers)[0] == 403
    said = " ".join(free.words().split())
    assert said.count("pass on the Host") == 1 and "\x1b" not in said


def test_a_name_of_its_own_needs_the_token(guarded: Server) -> None:
    """Behind a proxy the dashboard has any name: the cookie, which no other name has, lets in."""
    headers = {**HANDSHAKE, "Host": "mine.example", "Origin": "https://mine.example"}
    assert guarded.ask(STREAM, headers=headers)[0] == 403
    assert guarded.ask(STREAM, headers={**headers, **guarded.cookie})[0] == 101
    assert (
        guarded.ask(STREAM, headers={**headers, **guarded.cookie, "Origin": "https://mine.example:8000"})[0]
        == 403
    )


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_follow_links_and_embed_nothing(free: Server, site: str) -> None:
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert free.ask("/", headers=link)[0] == 200
    for other in ({"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}):
        assert free.ask("/", headers={**link, **other})[0] == 403


def upload(server: Server, visit: str, number: int, data: bytes) -> int:
    """Send a file as Streamlit's pages do."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n' + data + b"\r\n--x--\r\n"
    )
    return server.ask(f"/_stcore/upload_file/{visit}/{number}", "PUT", server.upload_headers(), body)[0]


def test_uploads_are_bounded(guarded: Server) -> None:
    with guarded.visit() as visit, guarded.visit() as other:
        assert [upload(guarded, visit.id, n, b"x" * 1000) for n in range(6)] == [204] * 4 + [429] * 2
        assert upload(guarded, other.id, 1, b"x") == 204, "another visit has room of its own"
        assert upload(guarded, other.id, 2, b"x" * (access.MAX_UPLOAD_MEGABYTES + 2) * 2**20) == 413
        path = f"/_stcore/upload_file/{other.id}/3"
        assert guarded.ask(path, "PUT", guarded.cookie, iter([b"x" * 10] * 3))[0] == 411


def test_an_upload_is_in_no_file_also_while_it_arrives(guarded: Server) -> None:
    def files() -> set[str]:
        if sys.platform != "linux":
            return set()
        entries = Path(f"/proc/{guarded.process.pid}/fd").iterdir()
        opened = [str(entry.readlink()) for entry in entries if entry.is_symlink() and entry.is_file()]
        # What the server may just import, and where the test's recorder writes.
        others = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), str(guarded.read_files))
        return {name for name in opened if not name.startswith(others)}

    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
    with guarded.visit() as visit, socket.create_connection(("localhost", guarded.port)) as line:
        names = {
            **guarded.upload_headers(),
            "Host": f"localhost:{guarded.port}",
            "Content-Length": str(9 * 2**20),
        }
        words = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        before = files()
        line.sendall(f"PUT /_stcore/upload_file/{visit.id}/1 HTTP/1.1\r\n{words}\r\n".encode() + head)
        line.sendall(b"x" * 4 * 2**20)
        time.sleep(0.5)
        assert files() <= before


def test_a_length_that_is_said_twice_is_none(guarded: Server) -> None:
    with guarded.visit() as visit:
        both = {**guarded.upload_headers(), "Content-Length": "5", "Transfer-Encoding": "chunked"}
        path = f"/_stcore/upload_file/{visit.id}/1"
        assert guarded.ask(path, "PUT", both, b"5\r\nhello\r\n0\r\n\r\n")[0] == 411


def test_a_websocket_that_sends_text_is_closed(guarded: Server) -> None:
    """Without a traceback, which the end of the server's test would find."""
    with guarded.visit() as visit:
        visit.socket.send("text")
        with pytest.raises(ConnectionClosed):
            while True:
                visit.socket.recv(timeout=20)


def test_a_message_is_bounded(guarded: Server) -> None:
    """By uvicorn while it arrives: Streamlit looks at it when it is whole."""
    with guarded.visit() as visit:
        with pytest.raises(ConnectionClosed) as closed:
            visit.socket.send(b"\0" * (access.MAX_MESSAGE_MEGABYTES * 2**20 + 1))
            while True:
                visit.socket.recv(timeout=20)
        assert closed.value.rcvd and closed.value.rcvd.code == 1009
    assert "Client WebSocket message size" not in guarded.words()


def test_uploads_of_all_visits_are_bounded_also_while_they_arrive() -> None:
    """Of the middleware alone: nothing is stored yet, and each visit sends one."""
    statuses: list[int] = []

    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def main() -> None:
        control = access.AccessControl(never, token="", uploads=dict)
        headers = [(b"host", b"localhost"), (b"content-length", b"5")]

        def put(visit: int) -> Any:
            path = f"/_stcore/upload_file/{visit}/1"
            scope = {
                "type": "http",
                "method": "PUT",
                "path": path,
                "headers": headers,
                "client": ("127.0.0.1", 1),
            }
            return control(scope, None, send)  # type: ignore[arg-type]

        await asyncio.gather(*map(put, range(access.MAX_UPLOADS + 3)))
        assert [status for status in statuses if status] == [429] * 3
        await put(99)
        assert [status for status in statuses if status] == [429] * 3, "there is room again"

    with ThreadPoolExecutor(1) as thread:  # a browser of other tests has a loop in this one
        thread.submit(asyncio.run, main()).result()


ADDRESSES: list[tuple[str, Mapping[str, str]]] = [
    *(
        (page, {"run": "theirs"})
        for page in ("", "overview", "curves", "classes", "images", "training", "run")
    ),
    ("images", {"run": "theirs", "any": "true", "exact": "2.5", "image": "3"}),
    ("images", {"any": "true", "severity": "3", "truth": "true", "order": "right finds more"}),
    ("live", {"run": "theirs", "source": "the run's images"}),
    ("live", {"run": "theirs", "source": "a sample", "models": "base"}),
    ("live", {"run": "theirs", "source": "a sample", "live_models": "base"}),  # as older addresses have it
]


@pytest.mark.parametrize(("page", "query"), ADDRESSES)
def test_an_address_loads_nothing_that_a_run_names(free: Server, page: str, query: Mapping[str, str]) -> None:
    """Neither weights nor images, counted by an audit hook in the server's process."""
    free.read_files.write_text("")
    with free.visit(page, **query) as visit:
        shown = visit.text
    assert free.theirs() == set()
    if page == "images":
        assert "Show the images" in shown
        assert ("Load the detectors" in shown) == ("any" in query)
    if page == "live":
        assert ("Load the detectors" if query["source"] == "a sample" else "Show the images") in shown


def test_the_recorder_sees_what_a_click_loads(browser: Any, free: Server) -> None:
    """The other half of the test above, in a browser: after the clicks the same addresses do read the files."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    free.read_files.write_text("")
    page.goto(f"http://localhost:{free.port}/images?run=theirs&any=true")
    page.get_by_role("button", name="Load the detectors").wait_for()
    page.get_by_role("button", name="Show the images").click()
    page.locator(".stage image[href^='data:image/png']").first.wait_for()
    assert free.theirs() == {".png"}
    page.get_by_role("button", name="Load the detectors").click()
    page.get_by_text("nothing stored").first.wait_for()  # since the weights are none
    assert free.theirs() == {".png", ".pt"}
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.goto("about:blank")

    free.read_files.write_text("")
    page.goto(f"http://localhost:{free.port}/live?run=theirs&source=a+sample&models=base")
    page.get_by_role("button", name="Load the detectors").wait_for()
    page.get_by_role("link", name="Images").click()  # which is to ask for them
    page.locator(".stage image[href^='data:image/png']").first.wait_for()
    assert ".pt" not in free.theirs()
    page.get_by_role("link", name="Live").click()
    page.get_by_role("button", name="Load the detectors").click()
    page.get_by_text("This cannot be shown").wait_for()
    assert ".pt" in free.theirs()
    page.close()


# The last of this file: the wrong attempts delay what follows.
def test_attempts_at_the_token_are_few(guarded: Server) -> None:
    """Each wrong one delays the next, a right one takes as long, and others are let in while one guesses."""

    def timed(token: str) -> tuple[int, float]:
        start = time.monotonic()
        return guarded.give(token)[0], time.monotonic() - start

    took = [timed(wrong) for wrong in ("", "x" * 3000, OWN[:-1])]
    assert [status for status, _ in took] == [401] * 3
    for attempt, (_, seconds) in enumerate(took):  # at least as long as the server waits, on any machine
        assert seconds > access.DELAY * 2**attempt - 0.01
    status, seconds = timed(OWN + " ")
    assert status == 303 and seconds > access.DELAY * 2**3 - 0.01

    statuses: list[int] = []
    guesses = [
        threading.Thread(target=lambda: statuses.append(guarded.give("a guess")[0]))
        for _ in range(access.MAX_LOGINS_PER_ADDRESS + 4)
    ]
    for guess in guesses:
        guess.start()
    time.sleep(0.5)
    owner = guarded.give(OWN, source="127.0.0.2")[0]
    for guess in guesses:
        guess.join()
    assert sorted(statuses) == [401] * access.MAX_LOGINS_PER_ADDRESS + [429] * 4
    assert owner == 303
    status, seconds = timed(OWN)
    assert status == 303 and seconds < access.MAX_DELAY + 2, "never locked out"


def test_what_is_sent_in_place_of_the_form_costs_little(guarded: Server) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    start = time.monotonic()
    assert guarded.ask("/", "POST", kind, b"token=" + b"x" * 100_000)[0] == 400
    assert guarded.ask("/", "POST", kind, b"&".join([b"a=b"] * 100))[0] == 400
    assert time.monotonic() - start < access.MAX_DELAY, "no attempt"
