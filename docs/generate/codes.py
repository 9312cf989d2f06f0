"""Writes docs/reference/exit-codes.md and docs/reference/conditions.md: how a run ends, and how a pipeline stands.

Numbers and words come from the code that uses them. What a word means to a person stands here, and a word without a
meaning, or a meaning without its word, ends the generator.
"""

import re
import sys
from collections.abc import Collection

from pages import code, table, write

from feedline import errors
from feedline.cli.explain import _REMEDIES  # what `feedline why` advises
from feedline.contract import FATAL_EXIT_CODES, REASONS, Cause, ExitCode
from feedline.training import verdict
from feedline_operator.reconcile import conditions, input_bound, outcome
from feedline_operator.reconcile.attempts import OUT_OF_MEMORY

EXIT_MEANINGS = {
    ExitCode.OK: "The training reached its limit, or the training function returned early.",
    ExitCode.TEMPORARY: "It failed for a reason that may pass. Of several processes: one hangs, or they lost "
    "each other.",
    ExitCode.INTERRUPTED: "Ctrl-C: the step at hand is finished, checkpoint and report are written, then it ends.",
    ExitCode.TERMINATED: "SIGTERM: the step at hand is finished, checkpoint and report are written, then it ends. Of "
    "several pods also those that are taken away with one that has ended.",
}
"""What the errors' own docstrings do not say."""

EXIT_REMEDIES = {
    ExitCode.OK: "",
    ExitCode.USAGE: "Correct the field or the option that the message names.",
    ExitCode.DATA: "Repair the file that the message names; `feedline check` finds most of it without training.",
    ExitCode.NO_INPUT: "Correct the path or the file's rights.",
    ExitCode.USER_ERROR: "Read the traceback above the message; correct the training function.",
    ExitCode.IO_ERROR: "Look at the storage: a full disk, a share that is gone.",
    ExitCode.TEMPORARY: "Try again.",
    ExitCode.ENVIRONMENT: "Install what is missing, or name an image that has it.",
    ExitCode.INTERRUPTED: "",
    ExitCode.TERMINATED: "",
}

STATES = {
    outcome.PENDING: "There is no pod yet, or no node takes it; of several nodes, while others may run. The message "
    "says which, in Kubernetes' own words.",
    outcome.QUEUED: "The Job is suspended by a queue manager such as Kueue. `feedline why` asks the queue.",
    outcome.STARTING: "The Job was created; its container does not run yet, or not those of all nodes. The message "
    "says if something holds it up.",
    outcome.RUNNING: "A container trains, of several nodes all of them run; or it has just ended and Kubernetes is "
    "about to say how.",
    outcome.SUSPENDED: "`spec.suspend` is true: the Job is deleted, the node is free.",
    outcome.RETRYING: "An attempt ended, and another one follows, with all pods anew. The message says how it ended.",
    outcome.IMAGE_PULL_FAILED: "The trainer's image or an image volume cannot be pulled; Kubernetes goes on trying.",
    outcome.COMPLETED: "The training is done. `status.report` has the final numbers.",
    outcome.STOPPED: "It was ended early by `spec.stop`, saved where it has an output. A success.",
    outcome.INVALID_SPEC: "The spec cannot be run, in a way that the schema does not see, or exit code 64.",
    REASONS[ExitCode.DATA]: "A file is wrong or missing: exit codes 65 and 66.",
    REASONS[ExitCode.USER_ERROR]: "The training function raised: exit code 70.",
    REASONS[ExitCode.ENVIRONMENT]: "The image lacks what the pipeline needs: exit code 78.",
    OUT_OF_MEMORY: "No retry is left, and the last attempt went over its memory limit.",
    outcome.RETRIES_EXHAUSTED: "No retry of `spec.policy.maxRetries` is left.",
    outcome.START_DEADLINE_EXCEEDED: "No container ran within `spec.policy.startDeadlineSeconds`, or not those of all "
    "nodes.",
    outcome.DEADLINE_EXCEEDED: "All attempts together took longer than `spec.policy.activeDeadlineSeconds`.",
    outcome.INTERNAL_ERROR: "The Job failed for a reason that feedline does not know.",
}
"""What each reason of the condition Succeeded means, in the order of a life."""

_GOOD = (outcome.COMPLETED, outcome.STOPPED)

CONDITIONS = {
    conditions.SUCCEEDED: "The summary: Unknown while the pipeline is active, then True or False for good. The column "
    "STATE is its reason.",
    conditions.ACCEPTED: "Whether the spec can be run. False with the reason InvalidSpec ends the pipeline.",
    conditions.PODS_READY: "True while a container trains. The reason is that of Succeeded.",
    conditions.INPUT_BOUND: "Whether the training waits for its data. The reason is the cause, in the table below; "
    "NoNumbers while the trainer has not been asked yet.",
    conditions.CHECKPOINTS_HEALTHY: "Whether the training could go on from what it has saved: True with Saved, or "
    "NothingDue before the first checkpoint. False with Failing (what, and since when), Stale (none for three "
    "intervals) or GraceTooShort (with both numbers). Unknown with NoOutput, NotUsed or NoNumbers.",
    conditions.SUSPENDED: "Whether `spec.suspend` is in force: True with the reason Suspended, or Suspending while the "
    "Job is still being deleted; else False, NotSuspended.",
}

CAUSES = {
    Cause.NONE: "The data keep up: the model is the bottleneck.",
    Cause.PAGE_FAULTS: "Pages are read from the disk while batches are gathered, and the data would fit into memory.",
    Cause.DISK: "Rows were not in memory when they were due: read for the first time, pushed out, or too many for it.",
    Cause.CPU: "Filling batches takes more CPU than there is, or a classic engine does.",
    Cause.SMALL_BATCHES: "Handing a batch over takes longer than filling it.",
    Cause.TRANSFER: "Copies to the device are slower than the feed.",
    Cause.TRANSFORM: "Transforms of the rows take most of the feed's time.",
    Cause.UNKNOWN: "The evidence names no cause, or the time cannot be seen behind the loader.",
}


BEFORE_EXIT_CODES = """\
# Exit codes

`feedline run` and the trainer in a pod end with the same codes, after
[sysexits](https://man.freebsd.org/cgi/man.cgi?query=sysexits). In a cluster a *fatal* code ends the pipeline at once,
because another attempt cannot cure it; every other one but 0 is retried, up to `spec.policy.maxRetries`.
"""
AFTER_EXIT_CODES = """\
The reason and the message are in the report too: `--report`, `status.report`, `status.attempts`.

A code that is not listed is retried as well. Those above 128 are 128 and the number of the signal that ended the
process, a program of yours, or a process that helps, such as a worker of a DataLoader: the run then ends as if it had
been killed itself, with the reason `Killed`, and the message names the process and the signal. Two of them say more.
137 (SIGKILL) is what the kernel does where memory is short, and where Kubernetes says OOMKilled the reason is
`{out_of_memory}`; 135 (SIGBUS) is `{data_invalid}`: a mapped file was cut short. Write data to a new file and rename
it, never into a file that is being read.

A process pool (`concurrent.futures`) does not say how its process ended, so that a broken one is 75. What a worker
*raises* keeps its code: 70 for code of yours.

The other commands use the same numbers; most [list theirs](cli.md). 1 is a fault of feedline: please report it.
"""
BEFORE_CONDITIONS = """\
# Conditions and reasons

A pipeline has all of its conditions from the operator's first look on.
`kubectl wait tp/digits --for=condition=Succeeded` waits for a good end.
"""
BEFORE_STATES = """\
## Reasons of Succeeded

The set is closed: there are no others. What to do is also what `feedline why NAME` says, which looks at the Job, the
pod, the node and the queue as well.

Of [several nodes](../how-to/several-gpus.md#several-nodes) the message says how many pods run, and which one waits for
what: `3 of 4 pods run; NAME-2-x waits: …`. The reason is that of the pod that waits.
"""
BEFORE_CAUSES = """\
## Causes

InputBound turns True when more than {above} ‰ of the training time is spent waiting for data, and False again below
{below} ‰. `feedline run` draws the line at {local} ‰. The cause is also `status.feed.verdict.cause`; beside it is one
sentence of advice for this very run.
"""
ATTEMPTS = """\
## Reasons of an attempt

`status.attempts` has one entry for each pod, or one for all pods of several nodes: it is then about the pod that
[began the end](../explanation/when-a-rank-dies.md). Its reason is that of the [exit code](exit-codes.md);
`{out_of_memory}` where the memory limit ended it, `Killed` where another signal did, `Deleted` where the pod was gone
before its end was seen. Kubernetes' own word stands there where Kubernetes took the pod away, such as
`EvictionByEvictionAPI`
([the list](https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions)); such an attempt
is not counted in `status.failures`, and of several nodes one that is `Deleted` is not either.
"""


def main() -> None:
    """Write both pages."""
    check("exit codes", EXIT_REMEDIES, list(ExitCode))
    check("states", STATES, states())
    check("conditions", CONDITIONS, conditions.ORDER)
    check("causes", CAUSES, list(Cause))
    write("exit-codes", "trainer-image/feedline/contract.py and errors.py", exit_codes())
    write("conditions", "operator/feedline_operator/reconcile/ and trainer-image/feedline/", stands())


def check(what: str, told: Collection[str | int], there: Collection[str | int]) -> None:
    """End if what is explained is not what is there."""
    if set(told) != set(there):
        differing = ", ".join(sorted(str(each) for each in set(told) ^ set(there)))
        sys.exit(f"feedline: docs/generate/codes.py: the {what} explained there are not those of the code: {differing}")


def states() -> set[str]:
    """Return every reason that the condition Succeeded can have."""
    words = {value for name, value in vars(outcome).items() if name.isupper() and isinstance(value, str)}
    return words | {REASONS[each] for each in FATAL_EXIT_CODES} | {OUT_OF_MEMORY}


def exit_codes() -> list[str]:
    """Return the page of exit codes."""
    meanings = {each.exit_code: each.__doc__ or "" for each in errors.FeedlineError.__subclasses__()}
    meanings = {each: re.sub(r" \(exit \d+\)", "", text) for each, text in meanings.items()} | EXIT_MEANINGS
    retried = dict.fromkeys(ExitCode, "retried") | dict.fromkeys(FATAL_EXIT_CODES, "fatal") | {ExitCode.OK: ""}
    rows = (
        (str(int(each)), code(REASONS[each]), retried[each], f"{meanings[each]} {EXIT_REMEDIES[each]}")
        for each in ExitCode
    )
    after = AFTER_EXIT_CODES.format(out_of_memory=OUT_OF_MEMORY, data_invalid=REASONS[ExitCode.DATA])
    return [BEFORE_EXIT_CODES, *table(("Code", "Reason", "In a cluster", "Meaning"), rows), after]


def stands() -> list[str]:
    """Return the page of conditions and reasons."""
    status = dict.fromkeys(STATES, "Unknown") | dict.fromkeys(_REMEDIES, "False") | dict.fromkeys(_GOOD, "True")
    remedies = {each: text.format(name="NAME") for each, text in _REMEDIES.items()}
    causes = BEFORE_CAUSES.format(
        above=input_bound.TRUE_ABOVE_PERMILLE,
        below=input_bound.FALSE_BELOW_PERMILLE,
        local=verdict.INPUT_BOUND_PERMILLE,
    )
    return [
        BEFORE_CONDITIONS,
        *table(("Condition", "Meaning"), ((code(each), CONDITIONS[each]) for each in conditions.ORDER)),
        BEFORE_STATES,
        *table(
            ("Status", "Reason", "Meaning", "What to do"),
            ((status[each], code(each), text, remedies.get(each, "")) for each, text in STATES.items()),
        ),
        causes,
        *table(("Cause", "Meaning"), ((code(each.value), CAUSES[each]) for each in Cause)),
        ATTEMPTS.format(out_of_memory=OUT_OF_MEMORY),
    ]


if __name__ == "__main__":
    main()
