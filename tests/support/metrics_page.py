"""The series that docs/reference/metrics.md has, and those of a page in Prometheus' text format, alike."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+)[^|]* \| (?P<labels>[^|]*)\| (?P<help>.+) \|$", re.MULTILINE)


def documented(title):
    """Return the series of the sections whose titles begin so: name to (type, labels, help)."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    rows = [row for section in sections if section.startswith(title) for row in ROW.finditer(section)]
    return {row["name"]: (row["type"], set(re.findall(r"`(\w+)`", row["labels"])), row["help"]) for row in rows}


def exposed(text):
    """Return the series of a page that was scraped: name to (type, labels, help)."""
    found = {}
    for family in text_string_to_metric_families(text):
        if family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, labels, family.documentation)
    return found
