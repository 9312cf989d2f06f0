"""A feed in Lightning, Accelerate and Transformers; the tests are in the folder `trainers`."""

from pathlib import Path

import childtests
import pytest

pytestmark = pytest.mark.trainer


def test_lightning_accelerate_and_transformers_take_a_feed():
    childtests.run(
        Path(__file__).with_name("trainers"), "torch", "lightning", "accelerate", "transformers", "torchdata"
    )


def test_the_section_on_notebooks_runs(run_section):
    assert run_section("A notebook, or any loop")


def test_every_section_of_the_page_is_run_by_a_test(page_sections):
    assert page_sections == {
        "PyTorch Lightning",
        "Accelerate",
        "Transformers",
        "Keras",
        "tf.data",
        "A notebook, or any loop",
    }
