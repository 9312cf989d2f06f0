"""docs/reference/metrics.md is what a trainer shows, no more and no less."""

from metrics_page import documented, exposed

TRAIN = """
import torch
from prometheus_client import generate_latest

def train(run):
    run.checkpoint(model=torch.nn.Linear(4, 3))
    for epoch in run.epochs():
        for batch in run.train:
            run.report(loss=0.5, learning_rate=0.1)
        for batch in run.validation:
            pass
    run.saver.close()  # which waits for what is being written
    with open("page", "wb") as file:
        file.write(generate_latest(run.metrics.registry))
"""


def test_the_page_has_every_series_of_a_run_and_no_other(project):
    saving = ("spec.output.persistentVolumeClaim.claimName=runs", "spec.train.checkpoint.everySteps=4")
    ended = project.run("spec.loader.residency=Memory", *saving, code=TRAIN)
    assert ended.code == 0, ended.errors
    live = exposed((project.folder / "page").read_text())
    assert len(live) > 30
    # Those of several ranks are on the page of such a run (test_ranks.py).
    of_one = {name: told for name, told in documented("Trainer").items() if "_trainer_rank_" not in name}
    assert of_one == live, "run `make generate`"
