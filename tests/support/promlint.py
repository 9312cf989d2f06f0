"""What `promtool check metrics` would complain of; its rules are those of prometheus/util/promlint."""

import re

from prometheus_client.parser import text_string_to_metric_families

UNITS = {
    "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "gigabytes",
    "kibibytes", "mebibytes", "gibibytes", "bits", "percent", "permille", "s", "ms", "us", "ns", "sec", "kb", "mb", "gb",
}  # fmt: skip
TYPES = {"counter", "gauge", "histogram", "summary", "untyped", "metric"}


def lint(text):
    """Yield the complaints about a page in Prometheus' text format."""
    # The parser adds a suffix that is missing, so that it is looked for in the text.
    for name in re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE):
        if not name.endswith("_total"):
            yield f"{name}: a counter without _total"
    for family in text_string_to_metric_families(text):
        yield from lint_family(family)


def lint_family(family):
    words = set(family.name.split("_"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", family.name):
        yield f"{family.name}: not in snake_case"
    if not family.documentation:
        yield f"{family.name}: no help"
    for word in words & (UNITS | TYPES):
        yield f"{family.name}: {word} is no base unit, or a type"
    if family.type in ("gauge", "histogram") and family.name.endswith(("_total", "_count", "_sum", "_bucket")):
        yield f"{family.name}: a suffix of another type"
    for sample in family.samples:
        if family.type != "histogram" and {"le", "quantile"} & set(sample.labels):
            yield f"{sample.name}: a label that only histograms have"
