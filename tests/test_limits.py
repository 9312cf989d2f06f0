"""What a process may use, read from the files of machines of every kind."""

import os

import numpy as np
import pytest

from feedline.limits import (
    anonymous_bytes,
    computing_threads,
    cpu_count,
    default_threads,
    limited_cpus,
    memory_bytes,
    thread_variables,
)

GIB = 2**30
MACHINE = {"proc/meminfo": "MemFree: 12 kB\nMemTotal:       16777216 kB\nMemAvailable: 1 kB\n"}
V2 = {"proc/self/cgroup": "0::/kube/pod\n"}
V1 = {"proc/self/cgroup": "12:name=systemd:/x\n5:memory:/pod\n4:cpu,cpuacct:/pod\n1:pids:/pod\n"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a root with these files; the host has 16 CPUs, and the affinity allows all."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)

    def machine(files):
        for name, text in {**MACHINE, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return machine


CPUS = {
    "no cgroup file": ({}, 16),
    "v2 quota of one and a half": ({**V2, "sys/fs/cgroup/kube/pod/cpu.max": "150000 100000\n"}, 1.5),
    "v2 without limit": ({**V2, "sys/fs/cgroup/kube/pod/cpu.max": "max 100000\n"}, 16),
    "v2 parent is tighter": (
        {**V2, "sys/fs/cgroup/kube/pod/cpu.max": "800000 100000\n", "sys/fs/cgroup/kube/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2 in a container sees only its own": ({**V2, "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
    "v2 quota above the machine": ({**V2, "sys/fs/cgroup/kube/pod/cpu.max": "9900000 100000\n"}, 16),
    "v2 unreadable text": ({**V2, "sys/fs/cgroup/kube/pod/cpu.max": "a few\n"}, 16),
    "v1 quota": (
        {
            **V1,
            "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "v1 without limit": (
        {
            **V1,
            "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us": "100000\n",
        },
        16,
    ),
}


@pytest.mark.parametrize(("files", "expected"), CPUS.values(), ids=CPUS)
def test_cpus_are_the_smallest_of_affinity_and_quotas(machine, files, expected):
    assert cpu_count(machine(files)) == expected


MEMORY = {
    "no cgroup file": ({}, 16 * GIB),
    "v2 limit": ({**V2, "sys/fs/cgroup/kube/pod/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
    "v2 without limit": ({**V2, "sys/fs/cgroup/kube/pod/memory.max": "max\n"}, 16 * GIB),
    "v2 parent is tighter": (
        {
            **V2,
            "sys/fs/cgroup/kube/pod/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/kube/memory.max": f"{3 * GIB}\n",
        },
        3 * GIB,
    ),
    "v2 in a container sees only its own": ({**V2, "sys/fs/cgroup/memory.max": f"{GIB}\n"}, GIB),
    "v1 limit": ({**V1, "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    "v1 without limit": ({**V1, "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "9223372036854771712\n"}, 16 * GIB),
}


@pytest.mark.parametrize(("files", "expected"), MEMORY.values(), ids=MEMORY)
def test_memory_is_the_smallest_of_the_machine_and_the_limits(machine, files, expected):
    assert memory_bytes(machine(files)) == expected


def test_memory_of_a_machine_that_does_not_say_is_asked_of_the_system(machine):
    root = machine({"proc/meminfo": "nothing here\n"})
    assert memory_bytes(root) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


STATUS = "Name:\tpython\nVmRSS:\t  300 kB\nRssAnon:\t    {} kB\nRssFile:\t  100 kB\n"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(STATUS.format(123), 123 * 1024), ("Name:\tpython\nVmRSS:\t  300 kB\n", 0)],
    ids=["it is told", "a kernel that does not tell"],
)
def test_what_a_process_has_taken_is_what_no_file_stands_for(machine, status, expected):
    assert anonymous_bytes(machine({"proc/self/status": status})) == expected


def test_memory_that_is_written_to_counts_and_a_mapped_file_does_not(tmp_path):
    before, size = anonymous_bytes(), 64 << 20
    taken = np.ones(size, np.uint8)
    assert 0.9 * size < anonymous_bytes() - before < 1.25 * size
    taken.tofile(tmp_path / "taken")
    mapped = np.memmap(tmp_path / "taken", np.uint8, "r")
    assert mapped.sum() == taken.sum()
    assert anonymous_bytes() - before < 1.25 * size


@pytest.mark.parametrize(
    ("quota", "threads"), [("20000", 1), ("100000", 1), ("290000", 2), ("400000", 4), ("1600000", 4)]
)
def test_default_threads_are_the_whole_cpus_from_one_to_four(machine, quota, threads):
    root = machine({**V2, "sys/fs/cgroup/kube/pod/cpu.max": f"{quota} 100000\n"})
    assert default_threads(root) == threads


def with_quota(machine, quota):
    return machine({**V2, "sys/fs/cgroup/kube/pod/cpu.max": f"{quota} 100000\n"})


@pytest.mark.parametrize(
    ("quota", "cpus", "computing"),
    [
        ("max", None, 15),
        ("1600000", None, 15),
        ("400000", 4, 3),
        ("250000", 3, 2),
        ("150000", 2, 1),
        ("100000", 1, 1),
        ("20000", 1, 1),
    ],
)
def test_a_limit_is_in_whole_cpus_of_which_the_feed_keeps_one(machine, quota, cpus, computing):
    root = with_quota(machine, quota)
    assert (limited_cpus(root), computing_threads(root)) == (cpus, computing)


def test_fewer_cpus_in_the_affinity_are_a_limit_too(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert limited_cpus(machine({})) == 2


@pytest.mark.parametrize(
    ("given", "set_"),
    [
        pytest.param({}, {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "3"}, id="nothing is set"),
        pytest.param({"OMP_NUM_THREADS": "8"}, {"NUMBA_NUM_THREADS": "3"}, id="one is the user's"),
        pytest.param({"OMP_NUM_THREADS": "8", "NUMBA_NUM_THREADS": "1"}, {}, id="both are"),
        pytest.param(
            {"MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "9"},
            {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "3"},
            id="a library's own variable stays and stands above OpenMP's",
        ),
    ],
)
def test_variables_hold_libraries_to_the_limit_and_leave_the_users_own(machine, given, set_):
    assert thread_variables(given, with_quota(machine, "400000")) == set_


def test_without_a_limit_no_variable_is_set(machine):
    assert thread_variables({}, machine({})) == {}
    assert thread_variables({}, with_quota(machine, "max")) == {}


def test_a_raised_limit_is_seen(machine):
    limit = "sys/fs/cgroup/kube/pod/memory.max"
    root = machine({**V2, limit: f"{GIB}\n"})
    before = memory_bytes(root)
    machine({limit: f"{4 * GIB}\n"})
    assert (before, memory_bytes(root)) == (GIB, 4 * GIB)
