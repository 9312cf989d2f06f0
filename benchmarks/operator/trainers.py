"""A trainer's /feed, for any number of pipelines whose pods have this machine's address: numbers that always change.

The operator asks no loopback address, so it listens on the one by which the machine reaches others, and nothing is
sent to find that out.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cluster.errors import NotHereError
from crowd import REPORT

from feedline.contract import METRICS_PORT


@contextlib.contextmanager
def listening() -> Iterator[str]:
    """Serve in a block, and yield the address."""
    address = _own_address()
    try:
        server = ThreadingHTTPServer((address, METRICS_PORT), _Feed)
    except OSError as error:
        raise NotHereError(
            f"Port {METRICS_PORT} of {address} cannot be listened on ({error.strerror}): end the program that holds it."
        ) from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            raise NotHereError("This machine has no address but loopback, which the operator does not ask.") from None
        return probe.getsockname()[0]


class _Feed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        steps = int(time.time() * 100) % 1_000_000
        body = json.dumps({**REPORT, "steps": steps, "targetSteps": 2_000_000, "samples": 32 * steps}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
