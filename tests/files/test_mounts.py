"""The type of file system that a file lies on, read from tables of mounts that are made up."""

import os

import numpy as np
import pytest

from feedline.files.file import File
from feedline.files.mounts import file_system


@pytest.fixture
def file(save):
    """Return an opened file."""
    return File(save("features", np.zeros((100, 2500), np.uint8)))


@pytest.fixture
def mounts(tmp_path, file):
    """Return a function that writes a mountinfo in which DEVICE stands for that of the file, and returns its path."""
    device = os.fstat(file.fileno()).st_dev

    def mounts(*lines):
        path = tmp_path / "mountinfo"
        path.write_text(
            "".join(f"{line}\n" for line in lines).replace("DEVICE", f"{os.major(device)}:{os.minor(device)}")
        )
        return path

    return mounts


ROOT = "22 1 0:4095 / / rw,relatime - overlay overlay rw,lowerdir=/a"
MOUNTS = {
    "a disk": (["36 22 DEVICE / /data rw,noatime master:1 - ext4 /dev/vdb rw"], "ext4"),
    "among others": ([ROOT, "36 22 DEVICE / /data rw - xfs /dev/vdb rw", "37 22 0:7 / /x rw - tmpfs x rw"], "xfs"),
    "without optional fields": (["36 22 DEVICE / /data rw - nfs4 server:/export rw"], "nfs4"),
    "with many": (["36 22 DEVICE / /data rw shared:1 master:2 propagate_from:3 - fuse.s3 bucket rw"], "fuse.s3"),
    "of a name with blanks": (["36 22 DEVICE / /my\\040data rw - ceph a:6789:/ rw"], "ceph"),
    "a folder of it": (["36 22 DEVICE /pv-1 /data rw - ext4 /dev/vdb rw"], "ext4"),
    "none of it": ([ROOT], ""),
    "nothing": ([], ""),
}


@pytest.mark.parametrize(("lines", "kind"), MOUNTS.values(), ids=MOUNTS)
def test_the_mounts_tell_the_file_system(file, mounts, lines, kind):
    assert file_system(file, mounts(*lines)) == kind


def test_without_mounts_it_is_not_known(file, tmp_path):
    assert file_system(file, tmp_path / "missing") == ""
