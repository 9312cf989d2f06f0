"""The commands in the `sh` and `console` blocks of a page: each with its output, and whether it is run by the tests.

A command is run unless it needs what a test has not: a cluster, a registry, the network, root. Which these are is told by
the program's name; a block that cannot be run for another reason says so in a comment right above it,
``<!-- not run: WHY -->``. A comment ``<!-- file: NAME -->`` makes a file of the block below it.
"""

import re
import shlex
from dataclasses import dataclass, field

import typer
from codeblocks import blocks

from feedline.cli import app

NEEDS_MORE = {"kubectl", "helm", "make", "pip", "docker", "curl", "eval"}
COMMANDS = typer.main.get_command(app).commands
IN_A_CLUSTER = {name for name, command in COMMANDS.items() if command.rich_help_panel == "In a cluster"}

_COMMENT = re.compile(r" *<!-- (not run|file): (.+) -->")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
_INNER = re.compile(r"\$\(([^)]*)\)")
_ENDS = {"|", "||", "&&", ";", "&"}


@dataclass
class Command:
    """A command as a reader types it, over several lines where it goes on, and what the page says it prints."""

    place: str
    text: str
    kept_from_running: str = ""
    output: list[str] = field(default_factory=list)

    @property
    def programs(self):
        """Return the words of each program that it starts."""
        text = self.text
        if heredoc := _HEREDOC.search(text):
            text = text[: heredoc.start()]
        return [words for part in [text, *_INNER.findall(text)] for words in simple_commands(part)]

    @property
    def is_run(self):
        """Tell whether a test can run it."""
        return not self.kept_from_running and not any(
            words[0] in NEEDS_MORE
            or (words[0] == "feedline" and (IN_A_CLUSTER & set(words[1:2]) or "--namespace" in words))
            for words in self.programs
        )


def simple_commands(text):
    """Return the words of each program of a pipeline or a list, without assignments in front of it."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = [[]]
    for word in lexer:
        if word in _ENDS:
            found.append([])
        elif found[-1] or not _ASSIGNMENT.fullmatch(word):
            found[-1].append(word)
    return [words for words in found if words]


def commands(page):
    """Return the commands of a page, in order."""
    found = []
    for block in blocks(page, "sh", "console"):
        reason = comment_above(page, block).get("not run", "")
        lines = block.text.splitlines()
        while lines:
            line = lines.pop(0)
            prompted = line.startswith("$ ")
            if block.language == "console" and not prompted:
                assert found, f"{block}: output before the first command"
                found[-1].output.append(line)
            elif line.strip() and not line.startswith("#"):
                text = line.removeprefix("$ ")
                while lines and goes_on(text):
                    text += "\n" + lines.pop(0)
                found.append(Command(str(block), text, reason))
    return found


def goes_on(text):
    """Tell whether a command does not end with this line."""
    if heredoc := _HEREDOC.search(text):
        return text.splitlines()[-1].strip() != heredoc[1]
    try:
        shlex.split(text)
    except ValueError:  # a quotation that is not closed
        return True
    return text.endswith("\\")


def files(page):
    """Return the blocks that a page asks its reader to save, by name."""
    named = [(comment_above(page, block).get("file"), block.text) for block in blocks(page)]
    return {name: text for name, text in named if name}


def comment_above(page, block):
    """Return what the comment on the line above a block says."""
    above = page.read_text(encoding="utf-8").splitlines()[: block.line - 1]
    match = _COMMENT.fullmatch(above[-1]) if above else None
    return {match[1]: match[2]} if match else {}
