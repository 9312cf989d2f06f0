"""A manifest that is right, to be spoilt, and the problems that are said of one that is not."""

import pytest

from feedline.contract import ExitCode
from feedline.manifest.reading import ManifestError
from feedline.manifest.yamlread import read_yaml

DIGITS = """\
apiVersion: feedline.dev/v1alpha1
kind: TrainingPipeline
metadata: {name: digits}
spec:
  backend: pytorch
  data:
    volumes:
    - name: digits
      persistentVolumeClaim: {claimName: digits}
    train:
      arrays:
      - {name: features, path: digits/features/*.npy, role: Input}
      - {name: labels, path: digits/labels.npy, role: Target}
      rows: {stop: 1500}
    validation:
      arrays:
      - {name: features, path: digits/features/*.npy, role: Input}
      - {name: labels, path: digits/labels.npy, role: Target}
      rows: {start: 1500}
  loader: {batchSize: 64, lastBatch: Keep, shuffle: {seed: 7}, threads: 2}
  train:
    entrypoint: feedline.models:train
    parameters: {learningRate: 1e-3, layers: 2.0, name: a, wide: yes}
    seed: 3
    epochs: 5
  resources: {accelerator: {count: 2}, memory: 8Gi}
"""


def document():
    (value,) = read_yaml(DIGITS, "digits.yaml")
    return value


def problems_of(function, *args):
    with pytest.raises(ManifestError) as caught:
        function(*args)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert caught.value.exit_code == ExitCode.USAGE
    return list(caught.value.problems)


def outcome(function, *args):
    """What a call returns, or the problems of its ManifestError."""
    try:
        return function(*args), ()
    except ManifestError as error:
        return None, error.problems
