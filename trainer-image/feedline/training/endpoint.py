"""`/metrics`, `/feed` and `/healthz` of a run, over HTTP."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder

from feedline.errors import EnvironmentInvalidError
from feedline.training.loop import Loop


@contextlib.contextmanager
def endpoint(run: Loop, port: int | None) -> Iterator[int | None]:
    """Serve `/metrics`, `/feed` and `/healthz` on `port`; 0 takes a free one, None serves nothing.

    Raises
    ------
    EnvironmentInvalidError
        The port is taken.
    """
    if port is None:
        yield None
        return
    try:
        server = _Server(("", port), _handler(run))
    except (OSError, OverflowError) as error:
        raise EnvironmentInvalidError(f"port {port}: cannot serve metrics there ({error})") from None
    thread = threading.Thread(target=server.serve_forever, name="feedline-metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a scraper that hung up; a fault of ours is worth its traceback."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _handler(run: Loop) -> type[BaseHTTPRequestHandler]:
    def metrics(accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(run.metrics.registry), content_type

    def feed(accept: str) -> tuple[bytes, str]:
        del accept
        return json.dumps(run.summary()).encode(), "application/json"

    def health(accept: str) -> tuple[bytes, str]:
        del accept
        return b"ok\n", "text/plain"

    pages: dict[str, Callable[[str], tuple[bytes, str]]] = {"/metrics": metrics, "/feed": feed, "/healthz": health}

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "feedline"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404, "try /metrics, /feed or /healthz")
                return
            body, content_type = page(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing: a scrape every few seconds is no news."""

    return Handler
