"""A site of another origin than ingest's: pages of a test's own, and what it was asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deploy.stack.embedded import HOST


@dataclass
class Site:
    """Pages by path; what else is asked for is a 404 in HTML, as on most sites."""

    url: str
    pages: dict[str, tuple[bytes, Mapping[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def page(self, body: str, path: str = "/", **headers: str) -> str:
        """Put a page there; returns its address. ``content_type`` and the like become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if not path.endswith((".js", ".txt")):
            body = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>{body}'
        kind = "text/javascript" if path.endswith(".js") else "text/html; charset=utf-8"
        self.pages[path] = (body.encode(), {"content-type": kind, **named})
        return self.url + path


@contextmanager
def serving_site() -> Iterator[Site]:
    """Serve on a free port until the block ends."""
    site = Site("")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path = self.path.partition("?")[0]
            site.asked.append((self.command, path))
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body, headers = site.pages.get(path, (b"<h1>Not found</h1>", {"content-type": "text/html"}))
            self.send_response(200 if path in site.pages else 404)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = answer  # noqa: N815 - the names that the library calls

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    site.url = f"http://{HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
