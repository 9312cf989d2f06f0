"""Names that the trainer and the operator share: the API group, labels, paths, environment, exit codes, the report.

Both sides agree on what is written here and on nothing else, so this module imports only the standard library
and knows neither arrays nor clusters.
"""

from enum import IntEnum, StrEnum
from typing import Final, TypedDict

API_GROUP: Final = "feedline.dev"
API_VERSION: Final = "v1alpha1"
KIND: Final = "TrainingPipeline"
PLURAL: Final = "trainingpipelines"
SWEEP_KIND: Final = "TrainingSweep"
SWEEP_PLURAL: Final = "trainingsweeps"

LABEL_SWEEP: Final = "feedline.dev/sweep"
"""On the trials of a sweep and their pods: the sweep's name."""
LABEL_TRIAL: Final = "feedline.dev/trial"
"""On a trial: its number in the sweep."""
PARAMETERS_ANNOTATION: Final = "feedline.dev/parameters"
"""On a trial: the values of the sweep's parameters, as JSON."""
SUSPENDED_ANNOTATION: Final = "feedline.dev/suspended-by"
"""On a trial that its sweep has suspended, and resumes."""
STOPPED_ANNOTATION: Final = "feedline.dev/stopped-by"
"""On a trial that its sweep has ended."""

DISCARD_ANNOTATION: Final = "feedline.dev/discard"
"""On a trial: the folders of trials that were ended early, beside its own; their weights are to go when it begins."""

LABEL_PIPELINE: Final = "feedline.dev/pipeline"
"""On the Job and its pods: the pipeline's name, by which the operator finds them."""
LABEL_INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""Kubernetes' own, on the pods of a Job."""
LABEL_BACKEND: Final = "feedline.dev/backend"
ANNOTATION_MANIFEST: Final = "feedline.dev/manifest"
CONTAINER: Final = "trainer"

POD_FIELDS: Final = ("backend", "data", "loader", "output", "objective", "train")
"""What of a spec the trainer gets to read in its pod."""

MANIFEST_PATH: Final = "/etc/feedline/manifest"
DATA_DIR: Final = "/data"
SOURCE_DIR: Final = "/code"
OUTPUT_DIR: Final = "/output"
TERMINATION_LOG: Final = "/dev/termination-log"
TERMINATION_LOG_BYTES: Final = 4096
METRICS_PORT: Final = 9464
METRICS_PORT_NAME: Final = "metrics"

ENV_MANIFEST: Final = "FEEDLINE_MANIFEST"
"""Path of the manifest, for a program of one's own that calls `feedline.Run.from_environment()`."""
ENV_PIPELINE: Final = "FEEDLINE_PIPELINE"
"""The pipeline's name, which is not in the pod's manifest."""
ENV_VOLUMES: Final = "FEEDLINE_VOLUMES"
"""Volumes that do not lie under `/data/NAME`, as a JSON object of name to folder."""
ENV_REPORT: Final = "FEEDLINE_REPORT"
"""Path to which the report is written, besides the termination message."""
ENV_PORT: Final = "FEEDLINE_METRICS_PORT"
"""Port for `/metrics`, `/feed` and `/healthz`; 0 takes a free one, empty serves none."""

IMPORT_FROM: Final = "FEEDLINE_IMPORT_FROM"
"""Another folder of modules, for `feedline run` of a trial."""
ENV_OUTPUT: Final = "FEEDLINE_OUTPUT"
"""The run's own folder, in which it leaves what it makes."""
ENV_RUN: Final = "FEEDLINE_RUN"
"""Which run this is, the pipeline's uid: it goes on from no other's checkpoints."""

ENV_DISCARD: Final = "FEEDLINE_DISCARD"
"""Names of folders beside the run's own, separated by commas, from which checkpoints and weights are to go."""

ENV_PROCESSES: Final = "FEEDLINE_PROCESSES"
"""How many processes train together in this pod."""
ENV_NODES: Final = "FEEDLINE_NODES"
"""How many pods train together; which of them this is, is the Job's completion index."""
ENV_PEERS: Final = "FEEDLINE_PEERS"
"""Where the first of these pods is found by the others, HOST:PORT."""
ENV_NODE: Final = "FEEDLINE_NODE"
"""The node on which the pod runs."""
ENV_INDEX: Final = "JOB_COMPLETION_INDEX"
"""Kubernetes' own name for the number of a pod in its Job."""
ENV_PEER_TIMEOUT: Final = "FEEDLINE_PEER_TIMEOUT_SECONDS"
"""Seconds after which a rank that does not answer is given up."""

PEER_TIMEOUT_SECONDS: Final = 300
"""The same where the policy names none."""
PEERS_PORT: Final = 29400
MAX_PROCESSES: Final = 64
MAX_NODES: Final = 256
MAX_MANIFEST_BYTES: Final = 128 * 1024
MAX_PARAMETERS: Final = 64
MAX_REPORT_VALUES: Final = 16
MAX_CURVE_POINTS: Final = 64
SPEED: Final = "samplesPerSecond"
"""An objective that needs no training function to report it: the rows trained on a second, epoch by epoch."""


class ExitCode(IntEnum):
    """How a training process ends, after sysexits(3)."""

    OK = 0
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    USER_ERROR = 70
    IO_ERROR = 74
    TEMPORARY = 75
    ENVIRONMENT = 78
    INTERRUPTED = 130
    TERMINATED = 143


FATAL_EXIT_CODES: Final = frozenset(
    {ExitCode.USAGE, ExitCode.DATA, ExitCode.NO_INPUT, ExitCode.USER_ERROR, ExitCode.ENVIRONMENT}
)
"""Exit codes that another attempt cannot cure; the operator does not retry them."""

REASONS: Final[dict[int, str]] = {
    ExitCode.OK: "Completed",
    ExitCode.USAGE: "InvalidSpec",
    ExitCode.DATA: "DataInvalid",
    ExitCode.NO_INPUT: "DataInvalid",
    ExitCode.USER_ERROR: "UserError",
    ExitCode.IO_ERROR: "IOError",
    ExitCode.TEMPORARY: "Temporary",
    ExitCode.ENVIRONMENT: "EnvironmentInvalid",
    ExitCode.INTERRUPTED: "Interrupted",
    ExitCode.TERMINATED: "Terminated",
    135: "DataInvalid",  # SIGBUS: a mapped file was cut short
}
"""The `reason` in the report for each exit code."""


MESHES: Final[dict[str, str]] = {
    "istio-proxy": 'sidecar.istio.io/inject: "false"',
    "linkerd-proxy": "linkerd.io/inject: disabled",
    "consul-dataplane": 'consul.hashicorp.com/connect-inject: "false"',
    "kuma-sidecar": "kuma.io/sidecar-injection: disabled",
}
"""Containers that a service mesh puts into pods, and the annotation that keeps them out."""

FOLLOWING_EVENTS: Final = (
    # Volumes that are waited for; why they do not come, an attach or a mount that failed has said.
    r"Unable to attach or mount volumes: .*(timed out waiting for the condition|context deadline exceeded)$",
    r"MountVolume\.WaitForAttach failed|Volume not attached according to node status",
    # Tried again while the first try, whose failure was told, is still at work.
    r"operation with the given volume id .* already exists|failed to reserve (sandbox|container) name",
    r"^Error: (ErrImagePull|ImagePullBackOff)$|^Back-off ",
    # True, and no hindrance.
    r"^(Nameserver|Search Line) limits were exceeded",
)
"""What warnings of Kubernetes say (regular expressions, in any case) that only follow from another one, or keep no pod
from starting: `feedline why` and a pipeline's status name another cause where there is one, however old it is."""


class Cause(StrEnum):
    """Why the training loop waits for data."""

    NONE = "None"
    PAGE_FAULTS = "PageFaults"
    DISK = "Disk"
    CPU = "Cpu"
    SMALL_BATCHES = "SmallBatches"
    TRANSFER = "Transfer"
    TRANSFORM = "Transform"
    UNKNOWN = "Unknown"


class Percentiles(TypedDict):
    """Microseconds."""

    p50: int
    p95: int
    p99: int


class Verdict(TypedDict):
    """Whether the data or the model holds the run back, and what to do."""

    inputBound: bool
    cause: str
    advice: str


class CheckpointReport(TypedDict, total=False):
    """The newest checkpoint (step, epoch, time, bytes, milliseconds), and how saving goes in this attempt."""

    step: int
    epoch: int
    time: str
    bytes: int
    milliseconds: int
    everySeconds: int
    blockedMillis: int
    skipped: int
    failures: int
    failingSince: str
    error: str


class ObjectiveReport(TypedDict, total=False):
    """The value that `spec.objective` names: its newest, its best, and at most 64 points of its curve, STEP:VALUE.

    The rows and steps of an epoch tell after how many rows of all a point was reported.
    """

    value: str
    best: str
    bestStep: int
    curve: list[str]
    epochSteps: int
    epochSamples: int


class RanksReport(TypedDict, total=False):
    """Of a run of several processes: how many, which waits most for data and where, its share, the others' at most."""

    world: int
    slowest: int
    node: str
    waitPermille: int
    othersPermille: int


class Report(TypedDict, total=False):
    """The final numbers of a run: `--report`, `/feed`, the termination message and `status.report` alike.

    Numbers are integers; `values` holds at most 16 decimal strings, ``"NaN"`` included. A field that is not
    known yet is left out.
    """

    pipeline: str
    backend: str
    engine: str
    reason: str
    exitCode: int
    message: str
    observedTime: str
    epochs: int
    steps: int
    targetSteps: int
    samples: int
    bytes: int
    milliseconds: int
    samplesPerSecond: int
    waitPermille: int
    feedSamplesPerSecond: int
    modelSamplesPerSecond: int
    transformPermille: int
    gather: str
    fetchMicros: Percentiles
    stepMicros: Percentiles
    firstBatchMillis: int
    firstStepMillis: int
    majorFaults: int
    minorFaults: int
    diskSamples: int
    memcpyLimitPermille: int
    diskRandomLimitPermille: int
    diskSequentialLimitPermille: int
    paging: str
    values: dict[str, str]
    fromStep: int
    output: str
    checkpoint: CheckpointReport
    objective: ObjectiveReport
    ranks: RanksReport
    rank: int
    verdict: Verdict
