"""The process in the pod, `python -m feedline.launch`: runs what the pod is given, and ends with the right code."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from feedline import contract, manifest
from feedline.contract import ExitCode
from feedline.errors import FeedlineError
from feedline.limits import thread_variables
from feedline.training import (
    JsonLines,
    StoppedEarly,
    end_if_lost,
    execute,
    logged,
    manifest_text,
    output_from_environment,
    port_from_environment,
    processes_from_environment,
    site_from_environment,
    volumes_from_environment,
    write_report,
)


def _stop_early(*_: object) -> NoReturn:
    raise StoppedEarly


def main() -> int:
    """Run the pipeline of this pod; return the exit code."""
    _start_with_fewer_threads()
    # The kernel ignores a signal without a handler for a container's first process: the pod would stay for all of its
    # grace period.
    signal.signal(signal.SIGTERM, _stop_early)
    with logged(JsonLines()) as log:
        return _run_logged(log)


def _start_with_fewer_threads() -> None:
    """Start this process anew, once, where its libraries must not start a thread for each CPU of the host.

    numpy has come with this package, and its OpenBLAS counted CPUs while it was loaded. All others are loaded later.
    """
    variables = thread_variables(os.environ)
    if "OMP_NUM_THREADS" in variables:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **variables})  # noqa: S606 - itself


def _run_logged(log: logging.Logger) -> int:
    path = Path(os.environ.get(contract.ENV_MANIFEST, contract.MANIFEST_PATH))
    try:
        document = manifest.from_pod(manifest_text(path), os.environ.get(contract.ENV_PIPELINE, "local"))
        port = port_from_environment(contract.METRICS_PORT)
        volumes = volumes_from_environment(document)
        output = output_from_environment()
        processes, site = processes_from_environment(), site_from_environment()
    except (OSError, FeedlineError) as error:
        message = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        write_report({"reason": "InvalidSpec", "exitCode": 64, "message": message[:1024]}, None)
        log.error(message)  # noqa: TRY400 - one line for the person who reads the pod's log
        return ExitCode.USAGE
    if output is None:
        log.info("spec.output is not set: what this run makes is gone with its pod")
    report_path = os.environ.get(contract.ENV_REPORT)
    finished = execute(
        document,
        volumes,
        import_from=(Path(contract.SOURCE_DIR),),
        report_path=Path(report_path) if report_path else None,
        port=port,
        output=output,
        processes=processes,
        site=site,
        is_json=True,
    )
    log.info(finished)
    end_if_lost(finished["exitCode"])
    return finished["exitCode"]


if __name__ == "__main__":
    sys.exit(main())
