"""Times as the API writes them: RFC 3339, whole seconds, UTC."""

from datetime import UTC, datetime, timedelta


def parse(text: str | None) -> datetime | None:
    """Return the time, None for none."""
    return None if text is None else datetime.fromisoformat(text)


def write(time: datetime) -> str:
    """Return the time as the API server writes it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def after(time: datetime, seconds: float) -> datetime:
    """Return the time this many seconds later."""
    return time + timedelta(seconds=seconds)
