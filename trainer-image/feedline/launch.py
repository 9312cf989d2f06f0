"""The process in the pod, `python -m feedline.launch`: runs what the pod is given, and ends with the right code."""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from feedline import contract, manifest
from feedline.contract import ExitCode
from feedline.errors import FeedlineError
from feedline.training import (
    StoppedEarly,
    execute,
    logged,
    manifest_text,
    port_from_environment,
    volumes_from_environment,
    write_report,
)


def _stop_early(*_: object) -> NoReturn:
    raise StoppedEarly


class _JsonLines(logging.Formatter):
    """One JSON object a line; a message may be an object too."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.msg if isinstance(record.msg, dict) else record.getMessage()
        return json.dumps({"level": record.levelname, "message": message}, separators=(",", ":"))


def main() -> int:
    """Run the pipeline of this pod; return the exit code."""
    # The kernel ignores a signal without a handler for a container's first process: the pod would stay for all of its
    # grace period.
    signal.signal(signal.SIGTERM, _stop_early)
    with logged(_JsonLines()) as log:
        return _run_logged(log)


def _run_logged(log: logging.Logger) -> int:
    path = Path(os.environ.get(contract.ENV_MANIFEST, contract.MANIFEST_PATH))
    try:
        document = manifest.from_pod(manifest_text(path), os.environ.get(contract.ENV_PIPELINE, "local"))
        port = port_from_environment(contract.METRICS_PORT)
    except (OSError, FeedlineError) as error:
        message = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        write_report({"reason": "InvalidSpec", "exitCode": 64, "message": message[:1024]}, None)
        log.error(message)  # noqa: TRY400 - one line for the person who reads the pod's log
        return ExitCode.USAGE
    report_path = os.environ.get(contract.ENV_REPORT)
    finished = execute(
        document,
        volumes_from_environment(document),
        import_from=(Path(contract.SOURCE_DIR),),
        report_path=Path(report_path) if report_path else None,
        port=port,
    )
    log.info(finished)
    return finished["exitCode"]


if __name__ == "__main__":
    sys.exit(main())
