"""A real browser without a window, asked by Chrome's DevTools protocol: what a page shows, asks for and complains about."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from dataclasses import dataclass

import websocket

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_QUIET = (
    *("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-port=0"),
    "--remote-allow-origins=*",
)
_INSTALL = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium")


class MissingBrowserError(Exception):
    """There is no browser here, and no way to get one."""


@dataclass(frozen=True)
class Seen:
    """What a script found, which addresses the page asked for, and what the browser complained about."""

    answer: str
    requests: list[str]
    complaints: list[str]


def find_browser():
    """Return the path of Chromium or Chrome; where there is none, have Debian's installed, which takes root."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingBrowserError("there is no Chromium: install it")
    done = subprocess.run(_INSTALL, capture_output=True, text=True, check=False)
    if done.returncode:
        subprocess.run(("apt-get", "update", "--quiet"), capture_output=True, check=False)
        done = subprocess.run(_INSTALL, capture_output=True, text=True, check=False)
    if (path := shutil.which("chromium")) is None:
        raise MissingBrowserError(f"Chromium could not be installed: {done.stderr.strip()[-300:]}")
    return path


def look_at(path, profile, file, script):
    """Open a file in a browser of its own and return what a script there finds."""
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    command = (path, *_QUIET, *sandbox, f"--user-data-dir={profile}", "about:blank")
    with (profile / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            return _ask(_port(profile / "log"), file.as_uri(), script)
        finally:
            process.kill()
            process.wait()


def _port(log, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise AssertionError(f"the browser did not start: {log.read_text()[-500:]}")


def _ask(port, address, script):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
        target = next(each for each in json.load(answer) if each["type"] == "page")
    requests, complaints, numbers = [], [], iter(range(1, 100))
    with contextlib.closing(websocket.create_connection(target["webSocketDebuggerUrl"], timeout=60)) as socket:

        def wait(is_it):
            while True:
                news = json.loads(socket.recv())
                method, given = news.get("method"), news.get("params", {})
                if method == "Network.requestWillBeSent":
                    requests.append(given["request"]["url"])
                elif method == "Runtime.exceptionThrown":
                    complaints.append(given["exceptionDetails"]["text"])
                elif method == "Log.entryAdded":
                    complaints.append(given["entry"]["text"])
                if is_it(news):
                    return news

        def call(method, **given):
            number = next(numbers)
            socket.send(json.dumps({"id": number, "method": method, "params": given}))
            return wait(lambda news: news.get("id") == number)

        for domain in ("Page", "Network", "Runtime", "Log"):
            call(f"{domain}.enable")
        call("Page.navigate", url=address)
        wait(lambda news: news.get("method") == "Page.loadEventFired")
        answer = call("Runtime.evaluate", expression=script, returnByValue=True)["result"]["result"]
        call("Runtime.evaluate", expression="1")  # and whatever follows from it is told
    return Seen(answer.get("value", json.dumps(answer)), requests, complaints)
