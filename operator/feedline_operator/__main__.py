"""`feedline-operator`: read the settings, set the log up, run."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import kopf

from feedline_operator import handlers, settings  # noqa: F401 - kopf finds the handlers once they are imported
from feedline_operator.cluster import connect
from feedline_operator.errors import CredentialsError


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def main() -> None:
    """Run the operator until SIGTERM or SIGINT."""
    if len(sys.argv) > 1:
        if sys.argv[1:] == ["--version"]:
            print(version("feedline"))  # noqa: T201 - the answer
            return
        print(_help())  # noqa: T201 - the answer
        sys.exit(0 if sys.argv[1:] == ["--help"] else 64)
    try:
        operator = settings.read()
        asyncio.run(_check_credentials())
    except (settings.SettingsError, CredentialsError) as error:
        sys.exit(f"feedline-operator: {error}")
    _log()
    try:
        asyncio.run(kopf.operator(clusterwide=not operator.namespaces, namespaces=operator.namespaces, standalone=True))
    except Exception as error:  # kopf does not name its own
        if isinstance(error.__cause__, settings.SettingsError):
            sys.exit(f"feedline-operator: {error.__cause__}")
        raise


async def _check_credentials() -> None:
    await (await connect()).close()


def _log() -> None:
    handler = logging.StreamHandler()
    if not sys.stderr.isatty():
        handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It tells of each event that it hands on.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def _help() -> str:
    lines = ["Usage: feedline-operator [--version | --help]", "", "Settings are read from the environment:", ""]
    for name, (default, text) in settings.VARIABLES.items():
        lines.append(f"  {name}={default}\n      {text}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
