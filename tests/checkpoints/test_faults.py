"""A save that is ended at any of its calls of the system never costs the checkpoint before it, and is never half."""

import errno
import os
import pathlib

import pytest

from feedline.checkpoints import checkpoints

CALLS = ("write", "fsync", "mkdir", "replace", "rename", "open", "unlink", "rmdir")


class Killed(BaseException):
    """Stands for SIGKILL: no handler for it is anywhere."""


class Faults:
    """Raises at the n-th call of those that change something."""

    def __init__(self, monkeypatch):
        self.calls = 0
        self.at = None
        self.error = None
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, call):
        def faulty(*arguments, **keywords):
            self.calls += 1
            if self.at is not None and self.calls >= self.at:
                # Who is killed does nothing more; what a disk refuses, it refuses for a while.
                raise self.error() if self.error is Killed else OSError(self.error, os.strerror(self.error))
            return call(*arguments, **keywords)

        return faulty


@pytest.fixture
def faults(monkeypatch):
    return Faults(monkeypatch)


@pytest.mark.parametrize("error", [Killed, errno.ENOSPC, errno.EIO], ids=["SIGKILL", "ENOSPC", "EIO"])
def test_a_save_that_ends_anywhere_leaves_the_newest_whole_one(kept, faults, error):
    kept.save(1, keep=1)
    before = faults.calls
    kept.save(2, keep=1)
    needed = faults.calls - before
    assert needed > 15
    step = 2
    for number in range(1, needed + 1):
        step += 1
        faults.at, faults.error = faults.calls + number, error
        with pytest.raises((Killed, OSError)):
            kept.save(step, keep=1)
        faults.at = None
        # Either it was there already and only the clearing was ended, or the one before is there.
        assert kept.newest() in (step, step - 1), number
        assert all(found.record is not None or found.was_begun for found in checkpoints(kept.path)), number
        kept.save(step, keep=1)
        assert kept.newest() == step
        assert len(kept.steps) == 1


def test_a_file_system_that_cannot_rename_takes_the_manifest_as_it_is(kept, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(pathlib.Path, "replace", refuse)
    kept.save(1)
    assert kept.newest() == 1
    assert sorted(path.name for path in (kept.path / "step-000000000001").iterdir()) == [
        "manifest.json",
        "model.safetensors",
    ]


def test_a_file_system_that_cannot_sync_folders_is_no_fault(kept, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor):
        if pathlib.Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    kept.save(1)
    assert kept.newest() == 1
