"""Writes charts/feedline/README.md: the chart's values, made of the comments in values.yaml.

A comment `# -- …` describes the value in the next line. A value without one is an error, and so is a comment that
describes nothing: nobody could set the one or find the other.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

CHART: Final = Path(__file__).parent / "feedline"
_KEY: Final = re.compile(r"( *)([A-Za-z]\w*):(.*)")
_COMMENT: Final = re.compile(r" *# -- (.+)")

_HEAD: Final = """<!-- Made by charts/readme.py from values.yaml: `make generate`. -->
# The chart feedline

{description}. Kubernetes {kubernetes}.

```sh
helm install feedline charts/feedline --namespace feedline-system --create-namespace
```

The CustomResourceDefinition is upgraded with the chart and stays when the chart goes, and with it all pipelines.
Nothing is downloaded by a hook, and there is none but that of `helm test`. A value that is not in this table is
refused.

| value | default | what it is |
|---|---|---|
"""


def described(text: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each value that a comment describes, with the comment."""
    path: list[str] = []
    comment = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _COMMENT.fullmatch(line):
            comment = match.group(1)
        elif match := _KEY.fullmatch(line):
            path = [*path[: len(match.group(1)) // 2], match.group(2)]
            if comment:
                yield ".".join(path), comment
            comment = ""
        elif comment:
            raise SystemExit(f"values.yaml:{number}: the comment above describes no value")


def leaves(values: dict[str, object], above: str = "") -> Iterator[str]:
    """Yield the paths of all values that hold no further named values."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name


def value_at(values: dict[str, object], path: str) -> object:
    """Return the value at a path."""
    value: object = values
    for name in path.split("."):
        value = value[name]  # type: ignore[index]
    return value


def readme() -> str:
    """Return the text of the README."""
    text = (CHART / "values.yaml").read_text()
    values, chart = yaml.safe_load(text), yaml.safe_load((CHART / "Chart.yaml").read_text())
    rows = dict(described(text))
    bare = [leaf for leaf in leaves(values) if not any(leaf == path or leaf.startswith(f"{path}.") for path in rows)]
    if bare:
        raise SystemExit(f"values.yaml: {', '.join(bare)} has no comment that begins with '# -- '")
    table = "".join(f"| `{path}` | `{json.dumps(value_at(values, path))}` | {text} |\n" for path, text in rows.items())
    kubernetes = chart["kubeVersion"].removeprefix(">=").removesuffix(".0-0") + " or newer"
    return _HEAD.format(description=chart["description"], kubernetes=kubernetes) + table


def main() -> None:
    """Write the README."""
    (CHART / "README.md").write_text(readme())


if __name__ == "__main__":
    sys.exit(main())
