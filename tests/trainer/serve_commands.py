"""Runs `feedline` commands one after the other in one process, so that its framework is imported once.

Requests come as JSON lines on stdin, answers go as JSON lines to the file descriptor named in argv. What a command
prints is part of the answer.
"""

import contextlib
import importlib
import io
import json
import os
import sys
from pathlib import Path


def run(arguments):
    from feedline.cli import main

    sys.argv = ["feedline", *arguments]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def answer(folder, arguments, before):
    os.chdir(folder)
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        exec(before, {"stack": stack})
        code = run(arguments)
    return {"code": code, "output": output.getvalue(), "errors": errors.getvalue()}


def forget_modules_of(folder):
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]
    importlib.invalidate_caches()


def serve(answers):
    path = list(sys.path)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(answer(**request)) + "\n")
        answers.flush()
        sys.path[:] = path
        forget_modules_of(request["folder"])


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        serve(answers)
