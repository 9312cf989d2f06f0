"""A feed in a loop of Accelerate: which rows its loaders give, and where they go on."""

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader

import feedline
from feedline import pytorch
from feedline.errors import UsageError
from feedline.order.permutation import permutation

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's StatefulDataLoader
    pytest.mark.filterwarnings("ignore:.*optimizer.step.*before.*lr_scheduler"),
]

BATCHES = [batch for epoch in range(6) for batch in permutation(50, 0, epoch).reshape(-1, 10).tolist()]
CONFIGURATIONS = {
    "defaults": {},
    "dispatched": {"dispatch_batches": True},
    "not dispatched": {"dispatch_batches": False},
}


def labels(loader):
    return [batch["labels"].tolist() for batch in loader]


@pytest.fixture
def loader(numbered):
    """Return a function that makes a feed as a new process would, and what Accelerate makes of it."""
    arrays, feeds = numbered(50), []

    def loader(configuration=None, *, batch_size=None, rows=10, bare=False, register=False, **options):
        feeds.append(feedline.Feed(arrays, rows, **options))
        batches = pytorch.batches(feeds[-1])
        accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**configuration or {}))
        # save_state asks for a model.
        prepared = accelerator.prepare(
            torch.nn.Linear(1, 1), batches if bare else DataLoader(batches, batch_size=batch_size)
        )[1]
        if register:
            accelerator.register_for_checkpointing(batches)
        return accelerator, prepared

    yield loader
    for feed in feeds:
        feed.close()


@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_prepared_data_loader_gives_the_epochs_of_the_feed(loader, configuration, batch_size):
    _, prepared = loader(configuration, batch_size=batch_size)
    assert len(prepared) == 5
    assert labels(prepared) + labels(prepared) == BATCHES[:10]
    assert next(iter(prepared))["labels"].tolist() == BATCHES[10]
    assert labels(prepared) == BATCHES[15:20]


def test_prepare_leaves_batches_as_they_are(loader):
    _, prepared = loader(bare=True)
    assert labels(prepared) + labels(prepared) == BATCHES[:10]


@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_metrics_are_gathered_of_every_row_of_a_smaller_last_batch(loader, configuration, batch_size):
    ordered = {"shuffle": "none", "last_batch": "keep"}
    accelerator, prepared = loader(configuration, batch_size=batch_size, rows=20, **ordered)
    gathered = [accelerator.gather_for_metrics(batch["labels"]).tolist() for batch in prepared]
    assert [row for batch in gathered for row in batch] == list(range(50))


def test_a_loader_of_a_restart_is_told_the_epoch_and_skips_what_was_trained_on(loader):
    _, prepared = loader()
    prepared.set_epoch(2)
    assert labels(skip_first_batches(prepared, 3)) == BATCHES[13:15]
    prepared.set_epoch(3)
    assert labels(prepared) == BATCHES[15:20]


def test_skipped_batches_are_those_of_the_next_epoch(loader):
    _, prepared = loader()
    assert labels(skip_first_batches(prepared, 2)) == BATCHES[2:5]
    assert labels(prepared) == BATCHES[5:10]


STATES = {
    "a stateful loader": {"configuration": {"use_stateful_dataloader": True}},
    "a stateful loader of defaults": {"configuration": {"use_stateful_dataloader": True}, "batch_size": 1},
    "a stateful loader, not dispatched": {
        "configuration": {"use_stateful_dataloader": True, "dispatch_batches": False},
    },
    "batches that are registered": {"bare": True, "register": True},
}


@pytest.mark.parametrize("how", STATES.values(), ids=STATES)
@pytest.mark.parametrize("step", [3, 5, 8])
def test_a_state_goes_on_with_the_next_batch(loader, tmp_path, how, step):
    accelerator, prepared = loader(**how)
    taken = 0
    while taken < step:
        for _ in prepared:
            taken += 1
            if taken == step:
                accelerator.save_state(tmp_path / "state")
                break
    accelerator, prepared = loader(**how)
    accelerator.load_state(tmp_path / "state")
    end = -(-(step + 1) // 5) * 5
    assert labels(prepared) + labels(prepared) == BATCHES[step : end + 5]


def test_a_state_that_would_skip_a_batch_is_refused(loader, tmp_path):
    accelerator, prepared = loader(register=True)
    next(iter(prepared))
    with pytest.raises(UsageError, match=r"one batch more than your loop .*use_stateful_dataloader=True"):
        accelerator.save_state(tmp_path / "state")


def test_a_loader_that_joins_batches_is_refused(loader):
    _, prepared = loader(batch_size=4)
    with pytest.raises(UsageError, match="told to join 4 batches of a feed"):
        labels(prepared)


def test_the_section_of_the_page_trains(run_section):
    names = run_section("Accelerate")
    assert names["train"].state()["epoch"] == 2
    assert float(names["loss"].detach()) < 1
