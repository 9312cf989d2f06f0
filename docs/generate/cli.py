"""Writes docs/reference/cli.md: the commands of `feedline` as its own help has them, and the operator's settings."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer
from pages import code, table, write

from feedline.cli import app
from feedline_operator.settings import VARIABLES

_INTRODUCTION = """\
Installed as `feedline` and as `kubectl-feedline`, so that `kubectl feedline why digits` is the same as
`feedline why digits`. Every command has `--help`. A wrong option or argument ends with 64, like a wrong manifest; see
[exit codes](exit-codes.md).
"""
_OPERATOR = """\
`feedline-operator` takes its settings from the environment. The chart sets them from its [values](values.md).
"""


def main() -> None:
    """Write the page."""
    group: Any = typer.main.get_command(app)
    lines = ["# Command line", "", _INTRODUCTION]
    panel = None
    for name, command in group.commands.items():
        if command.rich_help_panel != panel:
            panel = command.rich_help_panel
            lines += [f"## {panel}", ""]
        inner = getattr(command, "commands", None)
        for called, each in [(name, command)] if inner is None else [(f"{name} {each}", inner[each]) for each in inner]:
            lines += described(called, each)
    lines += ["## feedline-operator", "", _OPERATOR]
    settings = ((code(name), code(default) if default else "", text) for name, (default, text) in VARIABLES.items())
    lines += table(("Variable", "Default", "Meaning"), settings)
    write("cli", "trainer-image/feedline/cli/ and operator/feedline_operator/settings.py", lines)


def described(name: str, command: Any) -> list[str]:
    """Return the section of a command."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["feedline", name, "[OPTIONS]", *(written(each) for each in arguments)])
    lines = [f"### feedline {name}", "", "```text", usage, "```", "", *paragraphs(command.help)]
    if told := [(code(each.metavar), meaning(each)) for each in arguments if each.help]:
        lines += table(("Argument", "Meaning"), told)
    if options:
        lines += table(("Option", "Meaning"), ((code(spelled(each)), meaning(each)) for each in options))
    return lines


def paragraphs(text: str) -> Iterator[str]:
    """Yield a command's help as lines of Markdown; what is indented in it is a command."""
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("    "):
            yield from ("```sh", *(line.strip() for line in paragraph.splitlines()), "```", "")
        else:
            yield from (paragraph, "")


def written(argument: Any) -> str:
    """Return an argument as the usage shows it."""
    return str(argument.metavar)


def spelled(option: Any) -> str:
    """Return all spellings of an option, with what follows it."""
    names = "/".join(filter(None, [", ".join(sorted(option.opts, key=len)), *option.secondary_opts]))
    if option.is_flag:
        return names
    if option.metavar is None and issubclass(option.type_descriptor.annotation, Enum):
        return f"{names} {'|'.join(each.value for each in option.type_descriptor.annotation)}"
    return f"{names} {option.metavar or 'N'}"


def meaning(parameter: Any) -> str:
    """Return the help of an argument or an option, with its bounds and its default."""
    bounds = [
        f"{word} {value}."
        for word, value in (("At least", getattr(parameter, "min", None)), ("At most", getattr(parameter, "max", None)))
        if value is not None
    ]
    value = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    default = "" if value in (None, False) else f"Default: {code(value)}."
    return " ".join(filter(None, [parameter.help, *bounds, default]))


if __name__ == "__main__":
    main()
