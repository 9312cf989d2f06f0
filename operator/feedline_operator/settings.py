"""The operator's settings, all of them from the environment, as a pod gets them."""

import json
import os
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BACKENDS: Final = ("keras", "tensorflow", "pytorch")
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LARGEST_ID: Final = 2**31 - 1
_MAX_GROUPS: Final = 32
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class SettingsError(Exception):
    """A setting that cannot be used; one sentence."""


@dataclass(frozen=True)
class Settings:
    """What can be set. The name of each variable is in `VARIABLES`."""

    namespaces: tuple[str, ...]
    images: Mapping[str, str]
    security: Mapping[str, Any]
    lease_namespace: str
    lease_name: str
    identity: str
    status_interval_seconds: float
    resync_seconds: float
    workers: int
    calls_per_second: float
    calls_burst: int
    port: int


VARIABLES: Final = {
    "FEEDLINE_NAMESPACES": ("", "Namespaces to watch, separated by commas; empty for all."),
    "FEEDLINE_IMAGE_KERAS": ("", "The trainer's image for keras pipelines that name none."),
    "FEEDLINE_IMAGE_TENSORFLOW": ("", "The trainer's image for tensorflow pipelines that name none."),
    "FEEDLINE_IMAGE_PYTORCH": ("", "The trainer's image for pytorch pipelines that name none."),
    "FEEDLINE_POD_SECURITY_CONTEXT": (
        "",
        "User and groups of pipelines that name none, in JSON: runAsUser, runAsGroup, fsGroup, supplementalGroups.",
    ),
    "FEEDLINE_LEASE_NAMESPACE": ("", "Namespace of the Lease; empty for the pod's own, or feedline-system."),
    "FEEDLINE_LEASE_NAME": ("feedline-operator", "Name of the Lease that decides which replica works."),
    "FEEDLINE_STATUS_INTERVAL_SECONDS": ("30", "How often a running trainer is asked for its feed."),
    "FEEDLINE_RESYNC_SECONDS": ("600", "How often everything is listed, to find what the watches missed."),
    "FEEDLINE_WORKERS": ("16", "Pipelines that are worked on at once."),
    "FEEDLINE_CALLS_PER_SECOND": ("50", "Calls to the API server, on average."),
    "FEEDLINE_CALLS_BURST": ("100", "Calls to the API server at once."),
    "FEEDLINE_PORT": ("8080", "Port of /metrics, /healthz and /readyz; 0 takes a free one."),
}


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings.

    Raises
    ------
    SettingsError
        If one cannot be used.
    """
    values = {name: environment.get(name, "").strip() or default for name, (default, _) in VARIABLES.items()}
    namespaces = tuple(part for part in re.split(r"[,\s]+", values["FEEDLINE_NAMESPACES"]) if part)
    for namespace in namespaces:
        if not _NAMESPACE.fullmatch(namespace):
            raise SettingsError(f"FEEDLINE_NAMESPACES: {namespace!r} is no namespace; separate names by commas")
    images = {backend: values[f"FEEDLINE_IMAGE_{backend.upper()}"] for backend in BACKENDS}
    return Settings(
        namespaces=namespaces,
        images={backend: image for backend, image in images.items() if image},
        security=_security(values["FEEDLINE_POD_SECURITY_CONTEXT"]),
        lease_namespace=values["FEEDLINE_LEASE_NAMESPACE"] or _own_namespace(),
        lease_name=values["FEEDLINE_LEASE_NAME"],
        # A restarted process is another candidate, so that it never takes its predecessor's Lease for its own.
        identity=f"{socket.gethostname()[:190]}_{uuid.uuid4().hex[:12]}",
        status_interval_seconds=_number(values, "FEEDLINE_STATUS_INTERVAL_SECONDS", 1, 3600),
        resync_seconds=_number(values, "FEEDLINE_RESYNC_SECONDS", 1, 86400),
        workers=int(_number(values, "FEEDLINE_WORKERS", 1, 1000)),
        calls_per_second=_number(values, "FEEDLINE_CALLS_PER_SECOND", 0.1, 10000),
        calls_burst=int(_number(values, "FEEDLINE_CALLS_BURST", 1, 10000)),
        port=int(_number(values, "FEEDLINE_PORT", 0, 65535)),
    )


def _number(values: Mapping[str, str], name: str, low: float, high: float) -> float:
    try:
        number = float(values[name])
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise SettingsError(f"{name}: must be a number from {low} to {high} (got {values[name]!r})")
    return number


def _security(text: str) -> dict[str, Any]:
    """Return the users and groups, checked as the CRD checks a pipeline's: they go into every Job."""
    try:
        security = json.loads(text or "{}")
    except ValueError:
        security = None
    if not isinstance(security, dict) or not all(_are_ids(name, value) for name, value in security.items()):
        raise SettingsError(
            "FEEDLINE_POD_SECURITY_CONTEXT: must be a JSON object of runAsUser, runAsGroup and fsGroup (numbers from 1 "
            f"to {_LARGEST_ID}) and supplementalGroups (a list of them) (got {text!r})"
        )
    return security


def _are_ids(name: str, value: object) -> bool:
    if name == "supplementalGroups" and isinstance(value, list):
        return len(value) <= _MAX_GROUPS and all(_is_id(each) for each in value)
    return name in {"runAsUser", "runAsGroup", "fsGroup"} and _is_id(value)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_ID


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return "feedline-system"
