"""What `helm test` asks of the operator; it runs in a pod from the operator's image, and needs Python alone."""

import os
import sys
import time
import urllib.error
import urllib.request

DEADLINE = time.monotonic() + 60
WANTED = ("feedline_operator_build_info{", "feedline_operator_active 1.0")


def answer(path: str) -> str:
    """Return the text of a page, or what went wrong."""
    try:
        with urllib.request.urlopen(os.environ["OPERATOR"] + path, timeout=5) as page:
            return page.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return str(error)


def problem() -> str:
    """Return what is wrong, or nothing."""
    for path in ("/healthz", "/readyz"):
        if (text := answer(path)) != "ok\n":
            return f"{path}: {text.strip()}"
    metrics = answer("/metrics")
    missing = [series for series in WANTED if series not in metrics]
    return f"/metrics has no {missing[0]}" if missing else ""


# With several replicas the Service asks any of them, and a new leader takes seconds.
while said := problem():
    if time.monotonic() > DEADLINE:
        sys.exit(f"{os.environ['OPERATOR']}{said}")
    time.sleep(1)
sys.stdout.write("The operator is healthy, has read the cluster, and leads.\n")
