"""What Grafana does to a query before it sends it: variables and macros replaced by what was chosen.

Standard library only: the tests ask a Prometheus what the dashboards ask, and `pictures.py` draws the answers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Dashboard = Mapping[str, Any]

MACROS: Final = {"__rate_interval": "1m", "__range": "1h", "__range_s": "3600", "__interval": "1m"}
"""What Grafana puts in for an hour that is scraped every 15 seconds."""

# $name, ${name} and ${name:format}; label_replace's $1 is none of them.
_REFERENCE: Final = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::(?P<form>\w+))?\}|(?P<bare>[A-Za-z_]\w*))")


def substitute(text: str, variables: Mapping[str, str | Sequence[str]]) -> str:
    """Return a text with every reference to a variable replaced.

    Several values become a regular expression, as a Prometheus data source makes one of a variable that has many.

    Raises
    ------
    KeyError
        For a reference to what is neither a variable nor a macro.
    """
    known = {**MACROS, **variables}

    def value(match: re.Match[str]) -> str:
        chosen = known[match["braced"] or match["bare"]]
        values = [chosen] if isinstance(chosen, str) else list(chosen)
        if match["form"] == "regex":
            values = [re.sub(r"([\\/^$*+?.()|{}\[\]])", r"\\\1", one) for one in values]
        return values[0] if len(values) == 1 else f"({'|'.join(values)})"

    return _REFERENCE.sub(value, text)


def panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Return the panels that show something, those inside collapsed rows included."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def queries(dashboard: Dashboard, variables: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return (title of the panel, refId, expression) of every query, ready to be sent.

    Parameters
    ----------
    dashboard
        The JSON, loaded.
    variables
        The dashboard's own, such as {"namespace": ".+", "pipeline": "digits"}, and macros that are not to be `MACROS`.
    """
    return [
        (panel["title"], target["refId"], substitute(target["expr"], variables))
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]
