"""`feedline logs`: what the training process of an attempt wrote, for a person or, piped, byte by byte."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from feedline.cli.cluster import Object
from feedline.cli.connection import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from feedline.cli.printable import line, sentence
from feedline.cli.seen import condition, has_ended, index_of
from feedline.contract import CONTAINER
from feedline.errors import InputMissingError, UsageError

_LONGEST_LINE = 1 << 16


def logs(
    name: NameArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
    attempt: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="An attempt's number, as in `feedline status NAME`.")
    ] = None,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="The attempt before the newest one.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="As the pod wrote it, on a terminal too.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show the log of a pipeline's newest attempt.

        feedline logs digits -f

    On a terminal: time, level and message; into a pipe or a file: what the pod wrote, one JSON object a line. Exit
    codes: 0 shown, 66 no such pipeline, attempt or pod any more, 75 not started yet or the cluster cannot be reached,
    78 no cluster or not permitted.
    """
    if attempt is not None and previous:
        raise UsageError("--attempt and --previous exclude each other; give one")
    cluster = connect(namespace, context, kubeconfig)
    pipeline = cluster.pipeline(name)
    chosen = _choose(pipeline, cluster.pods(pipeline), attempt, previous=previous)
    readable = sys.stdout.isatty() and not raw
    pieces = cluster.log(chosen.pod, CONTAINER, follow=follow, timestamps=readable) if chosen.pod else None
    if pieces is None:
        raise InputMissingError(_gone(chosen))
    if readable:
        for each in _lines(pieces):
            typer.echo(_readable(each))
    else:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@dataclass(frozen=True)
class Attempt:
    """One pod of a pipeline; `told` is what the status knows about it."""

    index: int
    pod: str
    told: Object


def _choose(pipeline: Object, pods: Sequence[Object], index: int | None, *, previous: bool) -> Attempt:
    name, attempts = pipeline["metadata"]["name"], known_attempts(pipeline, pods)
    if not attempts:
        reason = condition(pipeline, "Succeeded")["reason"]
        raise InputMissingError(f"{name} has had no pod yet ({reason}): see `feedline why {name}`")
    if index is None and not previous:
        return attempts[0]
    wanted = attempts[0].index - 1 if index is None else index
    for each in attempts:
        if each.index == wanted:
            return each
    there = ", ".join(str(each.index) for each in reversed(attempts))
    raise InputMissingError(f"nothing is known of attempt {wanted} of {name}, only of {there}")


def known_attempts(pipeline: Object, pods: Sequence[Object]) -> list[Attempt]:
    """Return the attempts, the newest first: those of the status, and pods that the operator has not seen yet."""
    told = (pipeline.get("status") or {}).get("attempts") or []
    known = {uid for each in told for uid in (each.get("uid"), *each.get("members", ()))}
    is_one = pipeline["spec"].get("resources", {}).get("nodes", 1) == 1
    # Of several that train together the first tells of all; some that have ended are of attempts that others began.
    pods = pods if is_one else [pod for pod in pods if index_of(pod) == 0 and not has_ended(pod)]
    new = [pod["metadata"] for pod in pods if pod["metadata"]["uid"] not in known]
    new.sort(key=lambda metadata: str(metadata["creationTimestamp"]))
    first = told[0]["index"] + 1 if told else 1
    unseen = [Attempt(index, metadata["name"], {}) for index, metadata in enumerate(new, start=first)]
    return [*reversed(unseen), *(Attempt(each["index"], each.get("pod", ""), each) for each in told)]


def _gone(attempt: Attempt) -> str:
    told = attempt.told
    ended = sentence(told.get("reason") or "how is not known")
    code = f", exit code {told['exitCode']}" if "exitCode" in told else ""
    when = f", at {told['endTime']}" if "endTime" in told else ""
    message = f": {sentence(told['message'])}" if told.get("message") else ""
    pod = f"its pod {attempt.pod}" if attempt.pod else "its pod"
    return f"the log of attempt {attempt.index} is gone with {pod}; it ended ({ended}{code}{when}){message}"


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut pieces into lines; a line without an end is cut, so that memory stays bounded."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


def _readable(stamped: bytes) -> str:
    """Return a line that begins with the kubelet's time as time, level and message."""
    stamp, _, text = stamped.decode(errors="replace").partition(" ")
    try:
        time = datetime.fromisoformat(stamp).astimezone().strftime("%H:%M:%S")
    except ValueError:
        time, text = "", stamped.decode(errors="replace")
    level, message = _level_and_message(text)
    return line(f"{time:8}  {level:8}{message}")


def _level_and_message(text: str) -> tuple[str, str]:
    """Take a line of JSON apart; what is none, such as a traceback, is all message."""
    try:
        entry: Any = json.loads(text)
        level, message = entry["level"], entry["message"]
    except (ValueError, KeyError, TypeError):
        return "", text
    if isinstance(message, dict) and {"reason", "message"} <= message.keys():  # the report
        message = f"{message['reason']}: {message['message']}"
    return str(level), message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
