"""What Prometheus and Grafana show of real pipelines: every query of every panel, the alerts, and no gap in between.

One pipeline has finished, one runs and is starved on purpose, one runs, is not, and saves itself, one has failed and
one had retries. There is no GPU here: the panels about GPUs are asked over a sample in dcgm-exporter's format,
tests/e2e/dcgm.txt, and prove their joins alone. The network of these tests enforces no NetworkPolicy: tests/charts
compares the rendered ones with the calls that are made.
"""

import copy
import functools
import http.server
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from cluster import chart, data
from cluster.chart import CHART, NAMESPACE, ROOT, helm, rendered
from cluster.operators import eventually
from cluster.prometheus import Prometheus, build_all, install_kinds
from cluster.world import World
from substitution import queries

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "dashboards").glob("*.json"))}
SCRAPE_SECONDS = 5
MONITORED = (
    *("--set", "operator.statusIntervalSeconds=2"),
    *(
        part
        for name in ("serviceMonitor", "podMonitor")
        for part in ("--set", f"metrics.{name}.enabled=true,metrics.{name}.interval={SCRAPE_SECONDS}s")
    ),
    *("--set", "metrics.prometheusRule.enabled=true,grafana.dashboards.enabled=true"),
)
SMALL = {"cpu": "400m", "memory": "2Gi"}
GPU = {"resourceName": "nvidia.com/gpu", "count": 1}
ENDLESS = {"epochs": 1_000_000}
RUNS = "runs"
# Some are saved in the minutes that the panels are asked for, and three intervals are longer than a start takes.
OFTEN = {"checkpoint": {"everySeconds": 20}}
CODE = {
    # A model so small that a loader which touches every row in Python is what it waits for.
    "small.py": """
import torch
from torch import nn


def train(run):
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999)
    for _ in run.epochs():
        for batch in run.train:
            loss = nn.functional.cross_entropy(model(batch["features"].flatten(1)), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        run.report(loss=loss.item(), learning_rate=schedule.get_last_lr()[0])
""",
    "unlucky.py": """
import os


def train(run):
    for _ in run.epochs():
        for batch in run.train:
            os._exit(75)
""",
}


@pytest.fixture(scope="module")
def space(cluster, digits):
    """Return a namespace for all of these tests, with the digits, the code, and a claim to write to."""
    name = cluster.new_namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    # Of files that are not its own, the kernel does not tell a process what is in memory.
    folder = shutil.copytree(digits, digits.parent / f"owned-{name}")
    for path in (folder, *folder.iterdir()):
        os.chown(path, data.TRAINER, data.TRAINER)
    for path in folder.iterdir():
        with path.open("rb") as file:  # so that something is read from the disk
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    data.claim(cluster, name, folder)
    # Kubernetes gives a hostPath to no group: who is to write there must own it.
    data.output(cluster, name, digits.parent / f"runs-{name}", RUNS)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code", "namespace": name}, "data": CODE}
    cluster.apply(config)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def state(cluster, space):
    """Return a function that reads a pipeline, with its conditions by type."""
    return World(cluster, space).state


@pytest.fixture(scope="module")
def pipelines(cluster, space, images, state):
    """Upgrade the release to one that is monitored, and submit the pipelines; return their names."""
    build_all()  # first: the operator tells of a pipeline that has finished for some minutes only
    install_kinds(cluster)
    chart.install(cluster, images, *MONITORED)
    capacity = {"status": {"capacity": {"nvidia.com/gpu": "4"}}}
    cluster.kubectl("patch", "node", cluster.node_name, "--subresource=status", "-p", json.dumps(capacity))
    document = yaml.safe_load((ROOT / "examples" / "digits" / "pipeline.yaml").read_text())
    own = {"configMap": {"name": "code"}}

    def submit(name, *, train, loader=None, **spec):
        made = copy.deepcopy(document)
        made["metadata"] = {"name": name, "namespace": space}
        made["spec"] |= {"resources": SMALL, **spec}
        made["spec"]["loader"] |= loader or {}
        limits = {"epochs": 3} | train
        made["spec"]["train"] = {**made["spec"]["train"], **limits}
        cluster.apply(made)

    submit("finished", train={"entrypoint": "small:train", "source": own, "parameters": {}})
    submit("broken", train={"parameters": {"hiddenUnits": 0}})
    submit("unlucky", train={"entrypoint": "unlucky:train", "source": own, "parameters": {}}, policy={"maxRetries": 1})
    for name, reasons in {
        "finished": "Completed",
        "broken": "InvalidSpec",
        "unlucky": "RetriesExhausted Temporary",
    }.items():
        eventually(functools.partial(has_ended, state, name, reasons.split()), f"{name} has ended", 240, every=1)
    submit(
        "starved",
        train={"entrypoint": "small:train", "source": own, "parameters": {}} | ENDLESS,
        loader={"engine": "Classic", "batchSize": 256},
        resources={**SMALL, "accelerator": GPU},
    )
    submit(
        "healthy",
        train={"parameters": {"hiddenUnits": 1024}} | OFTEN | ENDLESS,
        loader={"batchSize": 128},
        output={"persistentVolumeClaim": {"claimName": RUNS}},
    )
    for name in ("starved", "healthy"):
        eventually(lambda name=name: state(name)["status"].get("feed", {}).get("steps"), f"{name} trains", 240, every=1)
    return ("finished", "broken", "unlucky", "starved", "healthy")


def has_ended(state, name, reasons):
    succeeded = state(name)["conditions"].get("Succeeded", {"status": "Unknown"})
    assert succeeded["status"] == "Unknown" or succeeded["reason"] in reasons, succeeded
    return succeeded["status"] != "Unknown"


@pytest.fixture(scope="module")
def gpu_sample(cluster, space, state, pipelines):
    """Serve what a dcgm-exporter would say if the starved pipeline had a GPU; return the address."""
    pod = state("starved")["status"]["attempts"][-1]["pod"]
    text = (Path(__file__).parent / "dcgm.txt").read_text().replace("NAMESPACE", space).replace("POD", pod)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def prometheus(cluster, images, pipelines, gpu_sample):
    """Return a Prometheus that scrapes as the chart says; its alerts wait a twentieth of their time."""
    documents = rendered(*MONITORED, *chart.image_values(images))
    for rule in (rule for each in documents if each["kind"] == "PrometheusRule" for rule in all_rules(each)):
        if "for" in rule:
            rule["for"] = f"{int(rule['for'].removesuffix('m')) * 3}s"
    with Prometheus(cluster, documents, {"dcgm-exporter": gpu_sample}) as server:
        yield server


def all_rules(document):
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def test_every_target_of_the_chart_is_scraped(prometheus, space):
    def targets():
        active = prometheus.ask("targets")["activeTargets"]
        return {
            (each["scrapePool"].split("/")[0], each["labels"].get("job_name", each["labels"].get("pod", "")))
            for each in active
            if each["health"] == "up" and "/" in each["scrapePool"]
        }

    def complete():
        kinds = [kind for kind, _ in targets()]
        return targets() >= {("podMonitor", "starved"), ("podMonitor", "healthy")} and "serviceMonitor" in kinds

    eventually(complete, "operator and trainers are scraped", 60)
    assert not prometheus.query('up{job!="dcgm-exporter"} == 0')


# Both pipelines train in one. What such a panel asks for is on the page of two ranks (tests/training/test_ranks.py).
OF_SEVERAL_PROCESSES = {"Waiting for data by rank"}
# None runs here; what such a panel asks for is in tests/operator/test_metrics.py.
OF_SWEEPS = {"Trials of sweeps", "Best of each sweep"}


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_shows_data(name, prometheus, space):
    variables = {
        "namespace": space,
        "operator_namespace": NAMESPACE,
        "__rate_interval": f"{4 * SCRAPE_SECONDS}s",
        "__range": "5m",
        "__range_s": "300",
        "__interval": f"{SCRAPE_SECONDS}s",
    }
    # What a classic loader does not say of itself, and cannot save, is asked of the one that the feed feeds.
    starved, healthy = (queries(BOARDS[name], {**variables, "pipeline": each}) for each in ("starved", "healthy"))
    wanted = [
        (title, ref, (query, other))
        for (title, ref, query), (_, _, other) in zip(starved, healthy, strict=True)
        if title not in OF_SEVERAL_PROCESSES | OF_SWEEPS
    ]

    shown = {}  # a panel of a moment may be empty again while others fill

    def empty():
        for title, ref, either in wanted:
            if found := next((found for query in either if (found := values(prometheus, query))), None):
                shown.setdefault((title, ref), found)
        return [f"{title} {ref}: {either[0]}" for title, ref, either in wanted if (title, ref) not in shown]

    deadline = time.monotonic() + 600
    while (missing := empty()) and time.monotonic() < deadline:
        time.sleep(5)
    assert not missing, "\n".join(missing)
    for (title, ref), found in shown.items():
        print(f"{name} | {title} {ref} | {found[-1]:.4g} ({min(found):.4g} to {max(found):.4g})")  # noqa: T201 - pytest -rP


def values(prometheus, query):
    """Return the finite values of a query in the last minutes, for panels over time and at a moment alike."""
    series = prometheus.range(query, 120, SCRAPE_SECONDS)
    found = [float(value) for each in series for _, value in each["values"]]
    return [value for value in found if math.isfinite(value)]


def test_the_starved_pipeline_is_told_and_the_healthy_one_is_not(prometheus, state, space):
    eventually(lambda: input_bound(state("starved"))["status"] == "True", "the starved one is input bound", 60)
    assert "%" in input_bound(state("starved"))["message"]
    stall = prometheus.query("namespace_job_name:feedline_trainer_input_stall:ratio_rate5m")
    ratios = {each["metric"]["job_name"]: float(each["value"][1]) for each in stall}
    assert ratios["starved"] > 0.3
    assert ratios["healthy"] < 0.1
    assert input_bound(state("healthy"))["status"] == "False"
    firing = eventually(lambda: prometheus.alerts("FeedlineTrainerInputBound"), "the alert fires", 120, every=1)
    assert [(each["namespace"], each["job_name"]) for each in firing] == [(space, "starved")]
    idle = eventually(lambda: prometheus.alerts("FeedlineGpuIdleInputBound"), "the GPU's alert fires", 120, every=1)
    assert [each["job_name"] for each in idle] == ["starved"]


def input_bound(pipeline):
    return pipeline["conditions"].get("InputBound", {"status": "none"})


def test_failed_pipelines_are_told(prometheus):
    def told():
        return {each.get("job_name") for each in prometheus.alerts("FeedlinePipelineFailed")} >= {"broken", "unlucky"}

    eventually(told, "the failed pipelines are told", 90, every=1)
    assert not prometheus.alerts("FeedlineOperatorAbsent")
    assert not prometheus.alerts("FeedlineOperatorReconcileErrors")
    assert not prometheus.alerts("FeedlineTrainerStalled")
    assert not prometheus.alerts("FeedlineCheckpointStale")


def test_the_report_of_a_finished_pipeline_stays(prometheus, space):
    (steps,) = prometheus.query(f'feedline_pipeline_report_steps{{namespace="{space}", job_name="finished"}}')
    assert float(steps["value"][1]) == 3 * (1500 // 32)
    assert not prometheus.query('up{job_name="finished"}')


def test_the_pictures_are_drawn(prometheus, space, tmp_path):
    """Into the docs by `make pictures`, else into a folder that goes."""
    script = ROOT / "dashboards" / "pictures.py"
    variables = ("--variable", f"namespace={space}", "--variable", "pipeline=starved")
    times = ("--range", "4m", "--scrape-seconds", str(SCRAPE_SECONDS))
    output = ROOT / "docs" / "img" if "PICTURES" in os.environ else tmp_path
    command = [sys.executable, script, "--prometheus", prometheus.url, *times, *variables, "--output", output]
    subprocess.run(command, check=True)
    assert {path.name for path in output.glob("*.png")} >= {f"dashboard-{name}.png" for name in BOARDS}


def test_an_upgrade_stops_no_pipeline_and_leaves_no_gap(prometheus, cluster, images, state, space):
    """The new operator stands by until the old one gives up the Lease."""
    jobs = cluster.get("jobs", "-n", space)["items"]
    before = {each["metadata"]["name"]: (each["metadata"]["uid"], each["metadata"]["generation"]) for each in jobs}
    attempts = {name: state(name)["status"]["attempts"] for name in ("starved", "healthy")}
    began = time.monotonic()
    chart.install(cluster, images, *MONITORED, "--set", "operator.podAnnotations.example\\.com/restarted=now")
    time.sleep(4 * SCRAPE_SECONDS)  # so that what comes after the change has been scraped
    seconds = time.monotonic() - began
    series = f'max(feedline_pipeline_info{{namespace="{space}", job_name="starved"}})'
    (seen,) = prometheus.range(series, seconds)
    times = [moment for moment, _ in seen["values"]]
    gap = max(after - before for before, after in itertools.pairwise(times))
    print(f"the longest gap in the series of a running pipeline: {gap:.0f} s")  # noqa: T201
    assert gap < 15, "the chart's own interval"
    jobs = cluster.get("jobs", "-n", space)["items"]
    assert {e["metadata"]["name"]: (e["metadata"]["uid"], e["metadata"]["generation"]) for e in jobs} == before
    for name, known in attempts.items():
        assert [each["uid"] for each in state(name)["status"]["attempts"]] == [each["uid"] for each in known]


def test_helm_tests_the_release(cluster):
    said = helm("test", chart.RELEASE, "--namespace", NAMESPACE, "--logs", cluster=cluster).stdout
    assert "The operator is healthy, has read the cluster, and leads." in said


def test_the_operator_is_ready_in_half_a_minute(cluster, images, pipelines):
    helm("uninstall", chart.RELEASE, "--namespace", NAMESPACE, "--wait", cluster=cluster)
    kinds = "all,leases,serviceaccounts,roles,rolebindings,configmaps,secrets"
    stays = {"lease.coordination.k8s.io/feedline-operator", "configmap/kube-root-ca.crt", "serviceaccount/default"}

    def left():
        return set(cluster.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name").stdout.split())

    eventually(lambda: left() == stays, "everything but the Lease is gone", 60)
    args = (*chart.image_values(images), "--set", "operator.statusIntervalSeconds=2")
    helm("install", chart.RELEASE, CHART, "--namespace", NAMESPACE, *args, cluster=cluster)

    def ready():
        return cluster.get("deployment", "feedline-operator", "-n", NAMESPACE)["status"].get("readyReplicas")

    began = time.monotonic()
    eventually(ready, "the operator is Ready", 30)
    print(f"helm install to a Ready operator: {time.monotonic() - began:.0f} s")  # noqa: T201
