"""What the documentation tells a person to type is there, and works: each command is checked, and run where it can be."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from codeblocks import PAGES, ROOT
from shellcommands import COMMANDS, IN_A_CLUSTER, NEEDS_MORE, commands, files, simple_commands

from feedline import manifest

pytestmark = pytest.mark.trainer

DIGITS = ROOT / "examples" / "digits"
TYPED = [
    pytest.param(command, id=f"{command.place}-{number}")
    for page in PAGES
    for number, command in enumerate(commands(page))
]
# test_commands.py runs these two over data of their own.
RUN_ELSEWHERE = {"own-data.md", "own-model.md"}
RUN = [
    page
    for page in PAGES
    # The commands of the reference are the examples of the command line's own help.
    if page.parent.name != "reference"
    and page.name not in RUN_ELSEWHERE
    and any(each.is_run for each in commands(page))
]

KUBECTL = {"annotate", "apply", "auth", "config", "create", "delete", "describe", "drain", "exec", "explain", "get"}
KUBECTL |= {"label", "logs", "patch", "port-forward", "rollout", "top", "uncordon", "version", "wait"}
KUBECTL_GLOBAL = {"-n", "--namespace", "--context", "--kubeconfig"}
HELM = {
    "get",
    "history",
    "install",
    "package",
    "rollback",
    "show",
    "status",
    "template",
    "test",
    "uninstall",
    "upgrade",
}
IN_THE_REPOSITORY = re.compile(
    r"(?:^|=|@)((?:benchmarks|charts|crds|dashboards|docs|examples|operator|requirements|tests|trainer-image)/[^,]*)"
)


def test_there_is_something_to_check():
    assert {"README.md", "laptop.md"} <= {page.name for page in RUN}
    assert sum(each.values[0].is_run for each in TYPED) >= 20
    assert sum(not each.values[0].is_run for each in TYPED) >= 20


# --- what is typed exists --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", TYPED)
def test_a_command_names_what_is_there(command):
    for words in command.programs:
        assert problems(words) == [], command.text


def problems(words):
    """Return what is wrong with the words of one program."""
    program, *rest = words
    if program == "kubectl" and "feedline" in rest[:1]:
        program, rest = "feedline", rest[1:]
    found = [f"{path} is not in the repository" for path in paths(rest) if not list(ROOT.glob(path))]
    if program in CHECKS:
        return found + CHECKS[program](rest)
    is_there = program in {".", "cd", *NEEDS_MORE} or shutil.which(program, path=environment()["PATH"])
    return found if is_there else [*found, f"{program} is no program"]


def paths(words):
    """Return the words that are paths in this repository."""
    return [match[1].rstrip("/") for word in words if (match := IN_THE_REPOSITORY.search(word))]


def feedline_problems(words):
    """Return what is wrong with a command of `feedline`."""
    name, *rest = words
    if name == "--help":
        return []
    if name not in COMMANDS:
        return [f"feedline has no {name}"]
    command = COMMANDS[name]
    if inner := getattr(command, "commands", None):
        if not rest or rest[0] not in inner:
            return [f"feedline {name} has no {' '.join(rest[:1])}"]
        name, command = f"{name} {rest[0]}", inner[rest[0]]
    spellings = {"--help"}.union(*([*each.opts, *each.secondary_opts] for each in command.params))
    given = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [f"feedline {name} has no {each}" for each in given if each not in spellings]


def kubectl_problems(words):
    """Return what is wrong with kubectl's verb."""
    while words and words[0].startswith("-"):
        words = words[2 if words[0] in KUBECTL_GLOBAL else 1 :]
    return [] if words and words[0] in KUBECTL else [f"kubectl has no {words[:1]}"]


def helm_problems(words):
    """Return what is wrong with Helm's verb."""
    return [] if words and words[0] in HELM else [f"helm has no {words[:1]}"]


def make_problems(words):
    """Return the targets that are not in the Makefile."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [f"make has no {each}" for each in words if "=" not in each and each not in targets]


def pip_problems(words):
    """Return the extras that the package does not have."""
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [re.fullmatch(r"(?:feedline|[.])\[(.+)\]", each) for each in words]
    return [
        f"there is no extra {each}" for match in named if match for each in match[1].split(",") if each not in there
    ]


CHECKS = {
    "feedline": feedline_problems,
    "kubectl": kubectl_problems,
    "helm": helm_problems,
    "make": make_problems,
    "pip": pip_problems,
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("feedline check pipeline.yaml --volumes digits=data", "feedline check has no --volumes"),
        ("feedline chek pipeline.yaml", "feedline has no chek"),
        ("feedline sweep ran sweep.yaml", "feedline sweep has no ran"),
        ("feedline sweep run sweep.yaml --volumes digits=data", "feedline sweep run has no --volumes"),
        ("kubectl feedline status digits --namepsace a", "feedline status has no --namepsace"),
        ("kubectl -n demo aply -f crds/", "kubectl has no ['aply']"),
        ("kubectl apply -f crds/ -f examples/digit/a.yaml", "examples/digit/a.yaml is not in the repository"),
        ("helm instal feedline charts/feedline", "helm has no ['instal']"),
        ("make demonstrate BACKEND=keras", "make has no demonstrate"),
        ("pip install 'feedline[torch]'", "there is no extra torch"),
        ("kubctl get tp", "kubctl is no program"),
    ],
)
def test_what_is_not_there_is_found(text, problem):
    (words,) = simple_commands(text)
    assert problem in problems(words)


CHANGED = [
    each
    for each in TYPED
    for words in each.values[0].programs
    if words[0] == "feedline" and words[1] in IN_A_CLUSTER and "--set" in words
]


@pytest.mark.parametrize("command", CHANGED)
def test_a_field_that_is_set_for_a_cluster_is_one_of_a_pipeline(command):
    for words in command.programs:
        changes = [value for option, value in itertools.pairwise(words) if option == "--set"]
        manifest.parse(manifest.read(DIGITS / "pipeline.yaml", changes))


# --- what is typed works ---------------------------------------------------------------------------------------------


def environment():
    """Return what a person's shell has, with feedline installed, and no more threads than a busy machine can bear."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "COLUMNS": "120"}


def shell(text, folder):
    """Run a command as bash does, and return how it ended."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_one_after_the_other(page, tmp_path):
    for package in ("torch", "tensorflow", "keras"):
        if find_spec(package) is None:
            assert not os.environ.get("CI"), f"{package} is not installed"
            pytest.skip(f"{package} is not installed")
    for name in ("charts", "crds", "dashboards", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    prepare(page, tmp_path)
    for name, text in files(page).items():
        (tmp_path / name).write_text(text)
    for command in commands(page):
        if command.is_run:
            ended = shell(shortened(command), tmp_path)
            assert ended.returncode == 0, (command.place, command.text, ended.stderr)
            assert missing(command, ended.stdout) == [], (command.place, command.text, ended.stdout)


def prepare(page, folder):
    """Put into a folder what a page takes for granted that its reader has."""
    if page.name == "laptop.md":
        return  # it begins with nothing but a checkout
    for name in ("digits.csv.gz", "pipeline.yaml"):
        shutil.copy(DIGITS / name, folder)
    if page.name == "README.md":
        return  # it packs the data itself
    data = "data/digits" if page.parent.name == "tutorial" else "data"  # where the first tutorial has put them
    packed = shell(f"feedline pack digits.csv.gz {data} --shape 8,8 --scale 0.0625 --shuffle-seed 7", folder)
    assert packed.returncode == 0, packed.stderr
    shutil.copy(folder / data / "features.npy", folder)


def shortened(command):
    """Return a command with less to train and to measure: the figures are not looked at here."""
    words = command.programs[0]
    if words[:3] == ["feedline", "sweep", "run"]:
        return shlex.join([*words, "--set", "spec.trials=3"])
    if words[:2] not in (["feedline", "run"], ["feedline", "compare"]):
        return command.text
    less = [] if "spec.train.epochs" in command.text else ["--set", "spec.train.epochs=1"]
    if words[1] == "compare":
        less += ["--rounds", "1", "--steps", "2", *([] if "--backend" in words else ["--backend", "pytorch"])]
    return shlex.join([*words, *less])


def missing(command, output):
    """Return the lines of a page that are no longer printed; figures are those of a moment, and are not compared."""
    words = command.programs[0]
    told = [line.rstrip() for line in command.output if line.strip("… .")]
    if words[0] == "feedline" and words[1] in ("pack", "check"):
        printed = [each.rstrip() for each in output.splitlines()]
        # The number of threads is that of the machine.
        return [line for line in told if line not in printed and not line.startswith("mapped: ")]
    labels = [match[1].strip() for line in told if (match := re.match(r"│ ([^│]+) │", line))]
    return [label for label in labels if label not in output]
