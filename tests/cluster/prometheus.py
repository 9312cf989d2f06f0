"""A real Prometheus beside a node cluster, configured by what the chart renders.

prometheus-operator's own generator makes the scrape configuration of the chart's monitors, so that what is proven here
is what a cluster does. What no chart brings is added as kube-prometheus-stack has it: the kubelet's cAdvisor.
"""

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from cluster import build
from cluster.api import ApiCluster
from cluster.errors import ClusterError
from cluster.node import NodeCluster
from cluster.processes import free_port

_MODULE = "github.com/prometheus-operator/prometheus-operator"
_MONITORS = ("ServiceMonitor", "PodMonitor")
_START_SECONDS = 300


def build_all() -> None:
    """Build what a Prometheus needs here, which takes minutes the first time."""
    build.programs(build.PROMETHEUS)
    build.programs(build.PROMETHEUS_OPERATOR)


def install_kinds(cluster: ApiCluster) -> None:
    """Give a cluster the kinds of prometheus-operator that the chart makes objects of, as its module has them."""
    crds = build.module(build.PROMETHEUS_OPERATOR, _MODULE) / "example" / "prometheus-operator-crd"
    for kind in ("servicemonitors", "podmonitors", "prometheusrules"):
        cluster.apply(crds / f"monitoring.coreos.com_{kind}.yaml")


def scrape_configs(documents: Sequence[dict], kubeconfig: Path) -> list[dict[str, Any]]:
    """Return what prometheus-operator makes of the monitors among these objects, for a Prometheus outside the cluster."""
    monitors = [document for document in documents if document["kind"] in _MONITORS]
    program = build.program("prometheus-operator", build.PROMETHEUS_OPERATOR)
    done = subprocess.run(
        [program], input=json.dumps({"items": monitors}), capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise ClusterError(f"prometheus-operator takes the monitors for wrong: {done.stderr.strip()}")
    # The configuration is a template of its StatefulSet, which has one shard here.
    configs = yaml.safe_load(done.stdout.replace("$(SHARD)", "0"))["scrape_configs"]
    for config in configs:
        for discovery in config["kubernetes_sd_configs"]:
            discovery["kubeconfig_file"] = str(kubeconfig)
    return configs


class Prometheus:
    """Prometheus, from `with` to the end of the block.

    Parameters
    ----------
    cluster
        Whose pods it scrapes.
    documents
        The chart's objects: the monitors say what is scraped, the PrometheusRule what is recorded and alerted on.
    targets
        Further addresses by job.
    """

    def __init__(self, cluster: NodeCluster, documents: Sequence[dict], targets: dict[str, str] | None = None) -> None:
        self._cluster = cluster
        self._folder = cluster.folder / "prometheus"
        self._documents = documents
        self._targets = targets or {}

    def __enter__(self) -> Self:
        self._folder.mkdir()
        groups = [
            group
            for document in self._documents
            if document["kind"] == "PrometheusRule"
            for group in document["spec"]["groups"]
        ]
        (self._folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(self._configuration()))
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.processes.kill("prometheus")

    def ask(self, path: str, **parameters: str | float) -> Any:
        """Return the data of an answer of the HTTP API.

        Raises
        ------
        ClusterError
            The query cannot be answered.
        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ClusterError(f"{parameters.get('query', path)}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant vector, each with `metric` and `value`; a scalar has no labels."""
        data = self.ask("query", query=expression)
        result = data["result"]
        return [{"metric": {}, "value": result}] if data["resultType"] == "scalar" else result

    def range(self, expression: str, seconds: float, step: float = 1) -> list[dict[str, Any]]:
        """Return the series of the last seconds, each with `metric` and `values`."""
        now = time.time()
        return self.ask("query_range", query=expression, start=now - seconds, end=now, step=step)["result"]

    def alerts(self, name: str, state: str = "firing") -> list[dict[str, str]]:
        """Return the labels of the alerts of that name which are in that state."""
        alerts = self.ask("alerts")["alerts"]
        return [each["labels"] for each in alerts if each["labels"]["alertname"] == name and each["state"] == state]

    def _configuration(self) -> dict[str, Any]:
        cadvisor = {
            "job_name": "kubelet",
            "scheme": "https",
            "metrics_path": "/metrics/cadvisor",
            "honor_labels": True,
            "tls_config": {"insecure_skip_verify": True},
            "static_configs": [{"targets": [f"{self._cluster.address}:10250"]}],
            "metric_relabel_configs": [{"target_label": "metrics_path", "replacement": "/metrics/cadvisor"}],
        }
        others = [
            {"job_name": job, "honor_labels": False, "static_configs": [{"targets": [address]}]}
            for job, address in self._targets.items()
        ]
        return {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [*scrape_configs(self._documents, self._cluster.kubeconfig), cadvisor, *others],
        }

    def _start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            build.program("prometheus", build.PROMETHEUS),
            f"--config.file={self._folder}/prometheus.yaml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._cluster.processes.start("prometheus", command, {**os.environ, "GOMAXPROCS": "1"})
        self._cluster.processes.wait_until(self._is_ready, "prometheus", "Prometheus was ready", _START_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False
