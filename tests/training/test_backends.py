"""The threads that frameworks start: as many as the process may use CPUs, and as the user says where they say it."""

import json

import pytest
from projects import skip_without

# Imports TensorFlow once, and answers each question in a child of its own, where nothing has been computed yet.
ASK = """
import json
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf

from feedline.training import backends

threading = tf.config.threading
USER = {
    "by nobody": lambda: None,
    "by the environment": lambda: os.environ.update(TF_NUM_INTRAOP_THREADS="5"),
    "by a call": lambda: threading.set_inter_op_parallelism_threads(7),
    "by computing first": lambda: tf.constant(1),
}


def threads(backend, cpus, said):
    USER[said]()
    backends.limited_cpus = lambda: cpus
    backends.import_backend(backend)
    backends.seed_everything(backend, 3)
    backends.device_and_clock(backend)
    tf.constant(1) + 1
    return threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()


for question in json.loads(sys.argv[1]):
    ours, theirs = os.pipe()
    if not os.fork():
        os.write(theirs, json.dumps(threads(*question)).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        print(answer.read(), flush=True)
"""

# TensorFlow counts by itself where it says 0.
TENSORFLOW = {
    ("tensorflow", 3, "by nobody"): [3, 3],
    ("keras", 3, "by nobody"): [3, 3],
    ("tensorflow", None, "by nobody"): [0, 0],
    ("tensorflow", 3, "by the environment"): [0, 3],
    ("tensorflow", 3, "by a call"): [3, 7],
    ("tensorflow", 3, "by computing first"): [0, 0],
}


def test_tensorflow_starts_as_many_threads_as_the_limit_has_cpus(python):
    skip_without("tensorflow")
    skip_without("keras")
    ended = python(ASK, json.dumps(list(TENSORFLOW)))
    assert ended.code == 0, ended.errors
    answers = [json.loads(line) for line in ended.output.splitlines()]
    assert dict(zip(TENSORFLOW, answers, strict=True)) == TENSORFLOW


TORCH = """
import os
import sys

import torch

from feedline.training import backends

has, limit, said = sys.argv[1:]
os.environ.pop("OMP_NUM_THREADS", None)
torch.set_num_threads(int(said or has))
if said:
    os.environ["OMP_NUM_THREADS"] = said
backends.computing_threads = lambda: int(limit)
backends.device_and_clock("pytorch")
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("has", "limit", "said", "threads"),
    [
        pytest.param(8, 3, "", 3, id="the limit leaves one to the feed"),
        pytest.param(2, 3, "", 2, id="fewer stay"),
        pytest.param(8, 3, "8", 8, id="the user says more"),
        pytest.param(8, 3, "3", 3, id="the user says the same"),
    ],
)
def test_torch_leaves_a_cpu_to_the_feed_unless_the_user_says_how_many(python, has, limit, said, threads):
    skip_without("pytorch")
    ended = python(TORCH, has, limit, said)
    assert ended.code == 0, ended.errors
    assert ended.output == f"{threads}\n"
