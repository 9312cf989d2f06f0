"""The panels of one pipeline that tell why: its data, its loader, its GPUs, its pod."""

from expressions import BY_PIPELINE, GPU_BUSY, NAMESPACE, PIPELINE, RATE, of_gpus, of_pods, seen, where
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from panels import Query, bars, lines, linked, ranking

_NO_TRAINER = "No trainer was scraped"
_NO_FEED = "No feed (engine Classic), or no trainer was scraped"
_NO_DCGM = "No dcgm-exporter"
_NO_CADVISOR = "No cAdvisor series of the kubelet"
# k8s-resources-pod of kubernetes-mixin, whose uid is the MD5 of its file's name; kube-prometheus-stack installs it.
_POD = (
    "Pod in kube-prometheus-stack",
    "/d/6581e46e4e5c7ba40a07646395ef7b23?${datasource:queryparam}&var-namespace=${__field.labels.namespace}&var-pod=${__field.labels.pod}&${__url_time_range}",
)


def data() -> list[model.Panel]:
    """Return whether batches are ready, and where their pages come from."""
    return [
        lines(
            "Batches ready",
            Query(f"max {BY_PIPELINE} (feedline_trainer_prefetch_batches{where(PIPELINE)})", "ready"),
            Query(f"max {BY_PIPELINE} (feedline_trainer_prefetch_capacity_batches{where(PIPELINE)})", "room"),
            description="Batches that lie ready, and how many can. Always 0: the feed is too slow. Always full: the "
            "model is.",
            unit=units.Short,
            no_value=_NO_FEED,
            colors={"room": "text"},
        ),
        lines(
            "Page faults per second",
            Query(f"sum by (kind) (rate(feedline_trainer_page_faults_total{where(PIPELINE)}[{RATE}]))", "{{kind}}"),
            Query(f"sum(rate(feedline_trainer_disk_samples_total{where(PIPELINE)}[{RATE}]))", "rows from the disk"),
            description="Major faults waited for the disk; minor ones found the page in memory. Rows from the disk "
            "were read ahead of need, which is no fault. Many of them, or of major faults: the data do not fit into "
            "memory, or have not been read yet.",
            unit=units.CountsPerSecond,
            no_value=_NO_TRAINER,
            colors={"major": "red", "minor": "green", "rows from the disk": "orange"},
        ),
        lines(
            "Data in memory",
            Query(f"max by (split) (feedline_trainer_dataset_resident_bytes{where(PIPELINE)})", "in memory, {{split}}"),
            Query(f"max by (split) (feedline_trainer_dataset_bytes{where(PIPELINE)})", "mapped, {{split}}"),
            description="Bytes of the split's rows, and how many of them are in memory, estimated from a sample of "
            "pages. The kernel tells it only to who owns the files or may write them; else the curve is missing.",
            unit=units.BytesIEC,
            no_value=_NO_TRAINER,
        ),
    ]


def loader() -> list[model.Panel]:
    """Return what the feed's threads do, and how the trainer started."""
    busy = f"sum {BY_PIPELINE} (rate(feedline_trainer_gather_busy_seconds_total{where(PIPELINE)}[{RATE}]))"
    transforming = f"sum {BY_PIPELINE} (rate(feedline_trainer_transform_seconds_total{where(PIPELINE)}[{RATE}]))"
    threads = f"max {BY_PIPELINE} (feedline_trainer_loader_threads{where(PIPELINE)})"

    def stage(name: str) -> Query:
        known = seen("feedline_trainer_startup_duration_seconds", f'{PIPELINE}, stage="{name}"')
        return Query(known, name, now=True)

    def first(what: str) -> Query:
        return Query(seen(f"feedline_trainer_time_to_first_{what}_seconds", PIPELINE), f"first {what}", now=True)

    return [
        lines(
            "Gather threads busy",
            Query(f"{busy} / ({threads} > 0)", "busy"),
            Query(f"{transforming} / ({threads} > 0)", "of it in transforms"),
            description="The share of the time in which the feed's threads work: copy rows, and transform them. Near "
            "100 %: more loader.threads, and the CPUs for them, may help. Low while batches are missing: they wait for "
            "pages.",
            unit=units.PercentUnit,
            no_value=_NO_FEED,
            top=1.0,
        ),
        lines(
            "Bytes read per second",
            Query(f"sum by (split) (rate(feedline_trainer_read_bytes_total{where(PIPELINE)}[{RATE}]))", "{{split}}"),
            description="Bytes of arrays handed to the loop, wherever they came from.",
            unit=units.BytesPerSecondSI,
            no_value=_NO_TRAINER,
        ),
        bars(
            "Loader errors",
            Query(
                f"sum by (reason) (increase(feedline_trainer_loader_errors_total{where(PIPELINE)}[{RATE}]))",
                "{{reason}}",
            ),
            description="Errors while batches were read: io (the disk), data (a file's content), shrank (a file was "
            "cut short while it was read), memory. Each one ends the attempt; its log names file and row.",
            unit=units.Short,
            no_value=_NO_TRAINER,
        ),
        ranking(
            "Start of the trainer",
            *(stage(name) for name in ("import", "open", "build")),
            *(first(what) for what in ("batch", "step")),
            description="Seconds of each stage of the start: importing the framework, opening the files, building the "
            "model. Then the time from the start of the process to the first batch, and to the end of the first step, "
            "which compiles.",
            unit=units.Seconds,
            no_value=_NO_TRAINER,
        ),
    ]


def gpu() -> list[model.Panel]:
    """Return what dcgm-exporter knows of the GPUs."""

    def panel(title: str, series: str, description: str, unit: str) -> model.Panel:
        asked = Query(f"max by (namespace, job_name, pod, gpu) ({of_gpus(series, PIPELINE)})", "{{pod}} GPU {{gpu}}")
        needs = f"{description} Needs NVIDIA's dcgm-exporter."
        return linked(lines(title, asked, description=needs, unit=unit, no_value=_NO_DCGM), *_POD)

    return [
        panel("GPU busy", GPU_BUSY, "The share of the time in which any kernel runs.", units.PercentUnit),
        panel(
            "Tensor cores busy",
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
            "The share of cycles in which the tensor cores compute. A busy GPU with idle tensor cores computes in a "
            "type or in shapes that they cannot use.",
            units.PercentUnit,
        ),
        panel(
            "GPU memory used",
            "DCGM_FI_DEV_FB_USED * 1048576",
            "Memory that is taken, not what is needed.",
            units.BytesIEC,
        ),
        panel(
            "PCIe, to the GPU",
            "DCGM_FI_PROF_PCIE_RX_BYTES",
            "Bytes per second that the GPU receives. Near what its link can carry, the copy is the bottleneck.",
            units.BytesPerSecondSI,
        ),
    ]


def pod() -> list[model.Panel]:
    """Return what the kubelet and the process itself know of the pod."""
    trainer = where(NAMESPACE, 'container="trainer"')

    def used(counter: str) -> str:
        return f"sum by (namespace, pod) (rate({counter}{trainer}[{RATE}]))"

    def held(gauge: str) -> str:
        return f"max by (namespace, pod) ({gauge}{trainer})"

    throttled = used("container_cpu_cfs_throttled_periods_total")
    own_cpu = f"sum by (namespace, job_name, pod) (rate(process_cpu_seconds_total{where(PIPELINE)}[{RATE}]))"
    own_memory = f"max by (namespace, job_name, pod) (process_resident_memory_bytes{where(PIPELINE)})"
    panels = [
        lines(
            "CPU",
            Query(of_pods(used("container_cpu_usage_seconds_total"), PIPELINE), "container {{pod}}"),
            Query(own_cpu, "process {{pod}}"),
            description="CPUs in use: of the container, by the kubelet's cAdvisor, and of the training process, by "
            "itself.",
            unit=units.Short,
            no_value=_NO_CADVISOR,
        ),
        lines(
            "Memory",
            Query(of_pods(held("container_memory_working_set_bytes"), PIPELINE), "working set {{pod}}"),
            Query(of_pods(f"({held('container_spec_memory_limit_bytes')} > 0)", PIPELINE), "limit {{pod}}"),
            Query(own_memory, "process {{pod}}"),
            description="The working set against the limit, above which the pod is killed. It counts mapped pages that "
            "were used lately, which the kernel takes back before it kills; the process's own size holds them, too.",
            unit=units.BytesIEC,
            no_value=_NO_CADVISOR,
            colors={"limit .*": "red"},
        ),
        lines(
            "CPU throttled",
            Query(of_pods(f"{throttled} / ({used('container_cpu_cfs_periods_total')} > 0)", PIPELINE), "{{pod}}"),
            description="The share of the scheduler's periods in which the container hit its CPU limit. Gather threads "
            "that are throttled look like a slow disk: raise resources.cpu.",
            unit=units.PercentUnit,
            no_value="No CPU limit, or no cAdvisor series",
            top=1.0,
        ),
        lines(
            "Bytes read from disks",
            Query(of_pods(used("container_fs_reads_bytes_total"), PIPELINE), "{{pod}}"),
            description="What the container read from block devices. A network file system is not among them.",
            unit=units.BytesPerSecondSI,
            no_value="Nothing read from a block device, or no cAdvisor series",
        ),
    ]
    return [linked(panel, *_POD) for panel in panels]
