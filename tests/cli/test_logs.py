"""`feedline logs` against a real API server and a kubelet that answers: what a pod wrote, as it wrote it."""

import queue
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from standins import NOW

from feedline.cli.connection import connect

LOG = [
    (b"2026-01-01T00:00:01.123456789Z", b'{"level":"INFO","message":"epoch 1"}'),
    (b"2026-01-01T00:00:02Z", b"  File \x1b[1mown.py\x1b[0m"),
    (b"2026-01-01T00:00:03Z", b'{"level":"ERROR","message":{"reason":"UserError","message":"no"}}'),
]


class Kubelet(BaseHTTPRequestHandler):
    """Answers as a kubelet that runs one container, which writes `LOG`, and after the first line waits."""

    asked: queue.Queue
    go_on: threading.Event

    def do_GET(self):
        self.asked.put(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        for stamp, line in LOG:
            self.wfile.write((stamp + b" " if "timestamps=true" in self.path else b"") + line + b"\n")
            assert self.go_on.wait(timeout=300)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def kubelet(cluster, namespace, standins, tmp_path):
    """Put a node into the cluster whose kubelet answers, and return its name and what it is asked."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kubelet", "-days", "2"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = type("Kubelet", (Kubelet,), {"asked": queue.Queue(), "go_on": threading.Event()})
    handler.go_on.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    name = f"node-{namespace}"
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_address[1]}},
    }
    standins.patch("node", name, {"status": status}, "--subresource=status")
    yield SimpleNamespace(node=name, asked=handler.asked, go_on=handler.go_on)
    cluster.kubectl("delete", "node", name)
    server.shutdown()
    server.server_close()
    thread.join()


def test_into_a_pipe_the_log_comes_byte_by_byte(feedline, digits, standins, kubelet):
    standins.job(digits, template={"nodeName": kubelet.node})
    standins.pod(digits)
    ended = feedline("logs", digits, "-f")
    assert ended.code == 0
    assert ended.output.encode() == b"".join(line + b"\n" for _, line in LOG)
    assert "/trainer?follow=true" in kubelet.asked.get(timeout=300)


def test_a_log_comes_as_it_is_written(digits, standins, kubelet, cluster, namespace):
    standins.job(digits, template={"nodeName": kubelet.node})
    pod = standins.pod(digits)["metadata"]["name"]
    kubelet.go_on.clear()
    pieces = connect(namespace, None, str(cluster.kubeconfig)).log(pod, "trainer", follow=True, timestamps=False)
    assert next(pieces) == LOG[0][1] + b"\n"
    kubelet.go_on.set()
    assert b"".join(pieces) == b"".join(line + b"\n" for _, line in LOG[1:])


def test_on_a_terminal_it_is_time_level_and_message(feedline, digits, standins, kubelet, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    standins.job(digits, template={"nodeName": kubelet.node})
    standins.pod(digits)
    assert feedline("logs", digits, terminal=True).output.splitlines() == [
        "00:00:01  INFO    epoch 1",
        "00:00:02            File own.py",
        "00:00:03  ERROR   UserError: no",
    ]
    raw = feedline("logs", digits, "--raw", terminal=True).output
    assert raw.splitlines()[0] == LOG[0][1].decode()


def test_an_attempt_is_chosen_by_its_number(feedline, digits, standins, kubelet):
    standins.job(digits, template={"nodeName": kubelet.node})
    metadata = standins.pod(digits)["metadata"]
    gone = {"index": 1, "pod": "digits-0-gone", "uid": "x", "endTime": NOW, "reason": "OutOfMemory", "exitCode": 137}
    newest = {"index": 2, "pod": metadata["name"], "uid": metadata["uid"]}
    standins.status(digits, "Running", attempts=[newest, gone])
    assert feedline("logs", digits).output == feedline("logs", digits, "--attempt", "2").output != ""
    for arguments in (["--attempt", "1"], ["--previous"]):
        ended = feedline("logs", digits, *arguments)
        assert ended.code == 66
        assert (
            f"the log of attempt 1 is gone with its pod digits-0-gone; it ended (OutOfMemory, exit code 137, at {NOW})"
            in ended.errors
        )
    ended = feedline("logs", digits, "--attempt", "9")
    assert ended.code == 66
    assert "nothing is known of attempt 9 of digits, only of 1, 2" in ended.errors


def test_a_pipeline_without_a_pod_has_no_log(feedline, digits):
    ended = feedline("logs", digits)
    assert ended.code == 66
    assert "digits has had no pod yet (Pending): see `feedline why digits`" in ended.errors


def test_a_pod_without_a_node_has_no_log_yet(feedline, digits, standins):
    standins.job(digits)
    standins.pod(digits)
    ended = feedline("logs", digits)
    assert ended.code == 75
    assert "no log yet: the pod waits for a node" in ended.errors
