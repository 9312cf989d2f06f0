"""Runs `feedline` commands one after the other in one process, so that its framework is imported once.

Requests come as JSON lines on stdin, answers go as JSON lines to the file descriptor named in argv. What a command
prints is part of the answer. A request with `apart` runs in a child, forked from here: a process of its own, as a
terminal starts it, that need not import the framework; the answer is its number, and later its exit code.
"""

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
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


def start_apart(folder, arguments):
    """Start a command in a session of its own, with its output in files, and return its process."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    os.chdir(folder)
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    try:
        code = run(arguments)
    except BaseException:  # noqa: BLE001 - nothing may come back into the server
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait_for(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def forget_modules_of(folder):
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]
    importlib.invalidate_caches()


def serve(answers):
    path = list(sys.path)
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("kind"):
            case "apart":
                told = start_apart(**request)
            case "wait":
                told = wait_for(**request)
            case _:
                told = answer(**request)
        answers.write(json.dumps(told) + "\n")
        answers.flush()
        sys.path[:] = path
        if "folder" in request:
            forget_modules_of(request["folder"])


if __name__ == "__main__":
    for package in sys.argv[2:]:
        importlib.import_module(package)
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        serve(answers)
    # Taking apart all that its frameworks have loaded and compiled takes half a minute, and nobody looks at that.
    os._exit(0)
