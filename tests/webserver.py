"""A web server on loopback that misbehaves as told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Page:
    """What is at a path. ``breaks``: after how many bytes the next answers break off, one number each."""

    body: bytes = b""
    status: int = 200
    location: str = ""
    breaks: list[int] = field(default_factory=list)
    ranges: bool = True


@dataclass
class Web:
    """A running server: its address, its pages, and the (path, Range header) of every request so far."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            span = self.headers.get("Range", "")
            web.asked.append((self.path, span))
            page = web.pages.get(self.path, Page(status=404))
            match = re.match(r"bytes=(\d+)-$", span)
            start = int(match[1]) if match and page.ranges and page.status == 200 else 0
            body = page.body[start:]
            self.close_connection = True
            if start >= len(page.body) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(page.body)}")
                body = b""
            else:
                self.send_response(206 if start else page.status)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
                if page.location:
                    self.send_header("Location", page.location)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(ConnectionError):  # the client has seen enough
                self.wfile.write(body[: page.breaks.pop(0)] if page.breaks else body)

        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in web.pages else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            web.pages[self.path] = Page(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


@contextmanager
def serve() -> Iterator[Web]:
    """A server for the time of the block."""
    web = Web("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
