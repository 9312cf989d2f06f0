"""The page itself: HTML that stands alone. Its one script is its own, and it may load nothing."""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from html import escape

from feedline.overview.drawing import bars, curves, number, parallel, text
from feedline.overview.entry import Entry, Overview
from feedline.overview.shares import importance


def page(overview: Overview) -> str:
    """Return the page."""
    style, script = (
        importlib.resources.files("feedline.overview").joinpath(f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    shares = importance(overview)
    sections = [
        ("Curves", curves(overview)),
        ("Parameters", parallel(overview)),
        ("What decides", bars(shares) + _ABOUT_SHARES if shares else ""),
        ("All", _table(overview)),
    ]
    drawn = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections if content)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(overview.title)}</title><style>{style}</style></head>"
        f"<body><h1>{escape(overview.title)}</h1>{_summary(overview)}{drawn}<script>{script}</script></body></html>\n"
    )


_ABOUT_SHARES = (
    "<p>How much each parameter decides whether a training is among the best quarter, of those that came to their end "
    "(PED-ANOVA).</p>"
)


def _summary(overview: Overview) -> str:
    states = dict.fromkeys(entry.state for entry in overview.entries)
    counted = ", ".join(
        f"{sum(entry.state == state for entry in overview.entries)} {escape(state.lower())}" for state in states
    )
    parts = [f"<p>{len(overview.entries)} trainings: {counted}.</p>"]
    if (best := overview.best) is not None:
        given = ", ".join(f"{escape(name)} = {escape(text(value))}" for name, value in best.parameters.items())
        parts.append(
            f"<p>Best: <b>{escape(best.name)}</b>, {escape(overview.value)} <b>{number(best.value)}</b>"
            f"{f' with {given}' if given else ''}.</p>"
        )
    waits = overview.most_waiting
    if waits is not None and waits.wait_permille is not None:
        cause = f" ({escape(waits.cause)})" if waits.cause else ""
        parts.append(f"<p>{escape(waits.name)} waits most for data: {_waiting(waits)} of its time{cause}.</p>")
    return "".join(parts)


def _table(overview: Overview) -> str:
    names = overview.parameters
    titles = ["training", "state", overview.value or "value", *names, "rows/s", "waits", "why"]
    head = "".join(f"<th><button>{escape(title)}</button></th>" for title in titles)
    rows = [
        f'<tr data-row="{place}">{"".join(_cells(entry, names))}</tr>' for place, entry in enumerate(overview.entries)
    ]
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table class="all">{body}</table></div>'


def _cells(entry: Entry, names: Sequence[str]) -> list[str]:
    given = [entry.parameters.get(name) for name in names]
    rate = "" if entry.samples_per_second is None else f"{entry.samples_per_second:,}"
    waits = _waiting(entry) + (f" ({entry.cause})" if entry.cause else "")
    told = [
        (entry.name, ""),
        (entry.state.lower(), ""),
        (number(entry.value), entry.value),
        *((text(value), value) for value in given),
        (rate, entry.samples_per_second),
        (waits, entry.wait_permille),
        (entry.message, ""),
    ]
    return [_cell(shown, value) for shown, value in told]


def _cell(shown: str, value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    mark = f' class="number" data-value="{value!r}"' if is_number else ""
    return f"<td{mark}>{escape(shown)}</td>"


def _waiting(entry: Entry) -> str:
    return "" if entry.wait_permille is None else f"{entry.wait_permille / 10:.0f} %"
