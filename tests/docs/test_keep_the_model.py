"""What the page on keeping a model shows is so: its loops leave files that its own lines load, without feedline."""

import json
import shutil

import pytest
from codeblocks import ROOT, blocks
from projects import skip_without
from shellcommands import files

from feedline.checkpoints import Opened, Record, Writer, checkpoints, read_state, state_of

PAGE = ROOT / "docs" / "how-to" / "keep-the-model.md"
DIGITS = ROOT / "examples" / "digits"
# The networks of the built-in models, in the framework alone.
BUILT_IN = {
    "pytorch": """
from torch import nn
def network():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
""",
    "tensorflow": """
import tensorflow as tf
def network():
    hidden = [tf.keras.layers.Dense(256, activation="relu") for _ in range(2)]
    return tf.keras.Sequential([tf.keras.Input((64,)), *hidden, tf.keras.layers.Dense(10)])
""",
    "keras": """
import keras
def network():
    inputs = keras.Input((8, 8), name="features")
    found = keras.layers.Reshape((-1,))(inputs)
    for _ in range(2):
        found = keras.layers.Dense(256, activation="relu")(found)
    return keras.Model(inputs, keras.layers.Dense(10)(found))
""",
}
WAYS = {"torch": ["pytorch"], "tensorflow": ["tensorflow", "keras"]}
# What somebody has who takes the files home: the framework, and the lines of the page.
LOADING = """
import json, os, sys
import numpy as np

features, labels = np.load("data/features.npy")[1500:], np.load("data/labels.npy")[1500:]

def accuracy(model):
    rows = features.reshape(len(features), *getattr(model, "input_shape", (None, 64))[1:])
    torch = sys.modules.get("torch")
    scores = model(rows) if torch is None else model(torch.from_numpy(rows)).detach()
    return float((np.asarray(scores).argmax(1) == labels).mean())

root = os.getcwd()
for folder, network, lines in json.loads(sys.argv[1]):
    os.chdir(os.path.join(root, folder))
    names = {}
    if "tensorflow" in sys.modules:
        sys.modules["keras"].backend.clear_session()  # as in a process of its own
    exec(network, names)
    names["model"] = names["network"]()
    exec(lines, names)
    print(json.dumps(accuracy(names["model"])))
assert "feedline" not in sys.modules
"""


def lines_with(text):
    """Return the one block of the page that has this in it, and is no file."""
    named = files(PAGE).values()
    (block,) = [each for each in blocks(PAGE, "python") if text in each.text and each.text not in named]
    return block.text


def loads(backend):
    """Return the page's lines for what a backend leaves, by the file that they load."""
    weights = lines_with("safetensors.torch" if backend == "pytorch" else "safetensors.numpy")
    whole = {"model.keras": lines_with("load_model")} if backend == "keras" else {}
    best = weights.replace("model.safetensors", "model.best.safetensors")
    assert best != weights
    return {"model.safetensors": weights, "model.best.safetensors": best, **whole}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes):
    """Return a folder with the digits as the example packs them, and the files of the page."""
    here = tmp_path_factory.mktemp("keep-the-model")
    options = ("--shape", "8,8", "--scale", "0.0625", "--shuffle-seed", 7)
    packed = processes("torch")("pack", DIGITS / "digits.csv.gz", "data", *options, folder=here)
    assert packed.code == 0, packed.errors
    for name, text in files(PAGE).items():
        (here / name).write_text(text)
    return here


@pytest.mark.parametrize("framework", WAYS)
def test_what_is_left_is_loaded_by_the_lines_of_the_page(folder, processes, python, tmp_path, framework):
    (tmp_path / "data").symlink_to(folder / "data")
    jobs, told = [], []
    for backend in WAYS[framework]:
        skip_without(backend)
        loop = files(PAGE)[f"loop_{backend}.py"]
        entrypoints = {"feedline.models:train": BUILT_IN[backend], f"loop_{backend}:train": loop}
        for number, (entrypoint, network) in enumerate(entrypoints.items()):
            here = tmp_path / f"{backend}-{number}"
            shutil.copytree(folder, here)
            report = trained(processes(framework), here, backend, entrypoint)
            best = float(report["objective"]["best"])
            for name, lines in loads(backend).items():
                assert (here / "runs/digits" / name).is_file()
                jobs.append([here.name, network, lines])
                told.append(best if "best" in name else float(report["values"]["val_accuracy"]))
    ended = python(LOADING, json.dumps(jobs), TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="")
    assert ended.code == 0, ended.errors
    assert [json.loads(line) for line in ended.output.splitlines()] == pytest.approx(told, abs=0.004)  # a row of 297


def trained(process, folder, backend, entrypoint):
    """Train the pipeline of the page for two epochs, and return its report."""
    changes = (f"spec.backend={backend}", f"spec.train.entrypoint={entrypoint}", "spec.train.epochs=2")
    sets = [part for change in changes for part in ("--set", change)]
    # Layers are numbered as in a process of its own.
    before = "" if backend == "pytorch" else "import keras; keras.backend.clear_session()"
    command = ("run", "pipeline.yaml", "--volume", "digits=data", "--output", "runs/digits", *sets)
    ended = process(*command, folder=folder, before=before)
    assert ended.code == 0, ended.errors
    return json.loads((folder / "runs/digits/report.json").read_text())


def test_the_counter_of_the_page_goes_on(tmp_path):
    names = {}
    exec(lines_with("class Patience"), names)
    patience = names["Patience"](2)
    assert not patience.is_over(0.5)
    assert not patience.is_over(0.7)
    writer = Writer(tmp_path, "a run", keep=1)
    writer.copy(
        {"patience": state_of("patience", patience)}, lambda: Record("a run", 3, 0, "", "", None, facts={}, progress={})
    )
    writer.write("Stopped", None, ())
    writer.wait()
    (found,) = checkpoints(tmp_path, "a run")
    restored = names["Patience"](2)
    state_of("patience", restored).put(read_state(Opened(found), "patience"))
    assert restored.is_over(0.6)
