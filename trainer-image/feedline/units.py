"""Rates and sizes as people say them: three digits at most, with a unit. Nothing of ours is known here."""


def rate(rows_per_second: float, unit: str = " rows/s") -> str:
    """Return a rate with three digits at most: 118 k rows/s."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if rows_per_second >= limit:
            value = rows_per_second / limit
            return f"{value:.0f}{suffix}{unit}" if value >= 10 else f"{value:.1f}{suffix}{unit}"
    return f"{rows_per_second:.0f}{unit}"


def size(count: float) -> str:
    """Return bytes with a decimal unit: 2.0 GB."""
    for limit, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            value = count / limit
            return f"{value:.0f} {suffix}" if value >= 10 else f"{value:.1f} {suffix}"
    return f"{count:.0f} bytes"
