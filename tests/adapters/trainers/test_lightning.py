"""A feed in a Lightning `Trainer`: which rows it trains on, looks at and goes on with."""

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint
from torch.utils.data import DataLoader

import feedline
from feedline import pytorch
from feedline.order.permutation import permutation

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # Lightning's advice: on logging, on checkpoints, on workers
]

EPOCHS = [permutation(50, 0, epoch).reshape(-1, 10).tolist() for epoch in range(6)]
WHOLE = [list(range(20)), list(range(20, 40)), list(range(40, 50))]
WRAPS = {
    "as it is": lambda batches: batches,
    "in a DataLoader": lambda batches: DataLoader(batches, batch_size=None),
    "in a DataLoader of defaults": DataLoader,
}


class Watching(lightning.LightningModule):
    """Notes the labels of every batch that it is given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.trained, self.validated, self.tested = [], [], []

    def training_step(self, batch, batch_idx):
        self.trained.append(batch["labels"].tolist())
        return self.layer(batch["labels"].reshape(-1, 1).float()).mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch["labels"].tolist())

    def test_step(self, batch, batch_idx):
        self.tested.append(batch["labels"].tolist())

    def predict_step(self, batch, batch_idx):
        return batch["labels"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-6)


@pytest.fixture
def feeds(numbered):
    """Return a function that makes feeds for training and for validation, as a new process would."""
    arrays, made = numbered(50), []

    def feeds(**options):
        made.append(feedline.Feed(arrays, 10, **options))
        made.append(feedline.Feed(arrays, 20, shuffle="none", last_batch="keep"))
        return made[-2:]

    yield feeds
    for feed in made:
        feed.close()


@pytest.fixture
def trainer(tmp_path):
    """Return a function that makes a quiet Trainer of three epochs."""

    def trainer(**options):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 3}
        quiet |= {"enable_checkpointing": "callbacks" in options, "default_root_dir": tmp_path, "accelerator": "cpu"}
        return lightning.Trainer(**quiet | options)

    return trainer


def epochs(*numbers, batches=5):
    return [batch for number in numbers for batch in EPOCHS[number][:batches]]


LOOK = WHOLE[:2]  # what the sanity check sees
FITS = {
    "defaults": ({}, epochs(0, 1, 2), LOOK + 3 * WHOLE),
    "without a sanity check": ({"num_sanity_val_steps": 0}, epochs(0, 1, 2), 3 * WHOLE),
    "limit_train_batches": ({"limit_train_batches": 2}, epochs(0, 1, 2, batches=2), LOOK + 3 * WHOLE),
    "a part of the train batches": ({"limit_train_batches": 0.4}, epochs(0, 1, 2, batches=2), LOOK + 3 * WHOLE),
    "limit_val_batches": ({"limit_val_batches": 1}, epochs(0, 1, 2), 4 * WHOLE[:1]),
    "val_check_interval": ({"val_check_interval": 2}, epochs(0, 1, 2), LOOK + 6 * WHOLE),
    "a part of val_check_interval": ({"val_check_interval": 0.5}, epochs(0, 1, 2), LOOK + 6 * WHOLE),
    "val_check_interval over epochs": (
        {"val_check_interval": 7, "check_val_every_n_epoch": None},
        epochs(0, 1, 2),
        LOOK + 2 * WHOLE,
    ),
    "max_steps": ({"max_epochs": -1, "max_steps": 7}, epochs(0, 1)[:7], LOOK + WHOLE),
    "accumulate_grad_batches": ({"accumulate_grad_batches": 2}, epochs(0, 1, 2), LOOK + 3 * WHOLE),
    "reload_dataloaders": ({"reload_dataloaders_every_n_epochs": 1}, epochs(0, 1, 2), LOOK + 3 * WHOLE),
    "fast_dev_run": ({"fast_dev_run": True}, epochs(0, batches=1), WHOLE[:1]),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize(("options", "trained", "validated"), FITS.values(), ids=FITS)
def test_epoch_e_is_epoch_e_of_the_feed(feeds, trainer, wrap, options, trained, validated):
    model, (train, validation) = Watching(), feeds()
    trainer(**options).fit(model, wrap(pytorch.batches(train)), wrap(pytorch.batches(validation)))
    assert model.trained == trained
    assert model.validated == validated


def test_a_second_fit_goes_on_with_the_next_epoch(feeds, trainer):
    model, (train, _) = Watching(), feeds()
    for _ in range(2):
        trainer(max_epochs=2).fit(model, pytorch.batches(train))
    assert model.trained == epochs(0, 1, 2, 3)


def test_overfitting_needs_an_order_that_stays(feeds, trainer):
    model, (train, validation) = Watching(), feeds(shuffle="none")
    trainer(overfit_batches=2).fit(model, pytorch.batches(train), pytorch.batches(validation))
    assert model.trained == 3 * [list(range(10)), list(range(10, 20))]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_validate_test_and_predict_see_every_row_in_order(feeds, trainer, wrap):
    model, (_, validation) = Watching(), feeds()
    loader = wrap(pytorch.batches(validation))
    trainer().validate(model, loader, verbose=False)
    trainer().test(model, loader, verbose=False)
    predicted = trainer().predict(model, loader)
    assert model.validated == model.tested == WHOLE
    assert np.concatenate(predicted).tolist() == list(range(50))


@pytest.fixture
def resumed(feeds, trainer, tmp_path):
    """Return a function that saves checkpoints, goes on from that of a step, and returns what was trained after it."""

    def resumed(step, *, wrap=WRAPS["as it is"], validate=True, trained=None, **saving):
        def fit(ckpt_path, **options):
            model, made = Watching(), feeds()
            loaders = [wrap(pytorch.batches(feed)) for feed in (made if validate else made[:1])]
            trainer(**(trained or {}) | options).fit(model, *loaders, ckpt_path=ckpt_path)
            return model.trained

        saver = ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, **saving)
        fit(None, callbacks=[saver])
        return fit(tmp_path / "saved" / f"step={step}.ckpt", max_epochs=4)

    return resumed


@pytest.mark.parametrize("validate", [True, False], ids=["validation", "no validation"])
@pytest.mark.parametrize("step", [1, 3, 5, 7, 10, 13])
def test_a_checkpoint_of_a_step_goes_on_with_the_next_batch(resumed, step, validate):
    assert resumed(step, validate=validate, every_n_train_steps=1) == epochs(0, 1, 2, 3)[step:]


@pytest.mark.parametrize("validate", [True, False], ids=["validation", "no validation"])
@pytest.mark.parametrize("step", [5, 10, 15])
def test_a_checkpoint_of_an_epoch_goes_on_with_the_next_epoch(resumed, step, validate):
    # Lightning loads no state of loaders there: it only tells which epoch comes.
    assert resumed(step, validate=validate) == epochs(0, 1, 2, 3)[step:]


@pytest.mark.parametrize("step", [2, 4, 7, 9])
def test_a_checkpoint_of_a_validation_within_an_epoch_goes_on_with_the_next_batch(resumed, step):
    assert resumed(step, trained={"val_check_interval": 2}) == epochs(0, 1, 2, 3)[step:]


def test_a_checkpoint_of_epochs_that_were_cut_short_goes_on_with_the_next_epoch(resumed):
    assert resumed(4, trained={"limit_train_batches": 2}) == epochs(2, 3, batches=2)


def test_a_data_loader_around_batches_is_not_resumed_and_lightning_says_so(resumed):
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        resumed(3, wrap=DataLoader, every_n_train_steps=1)


def test_a_checkpoint_of_an_exception_counts_the_batch_that_failed(feeds, trainer, tmp_path):
    class Fail(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 7:
                raise RuntimeError("out of luck")

    callbacks = [OnExceptionCheckpoint(tmp_path, filename="failed"), Fail()]
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(callbacks=callbacks).fit(Watching(), pytorch.batches(feeds()[0]))
    model = Watching()
    trainer().fit(model, pytorch.batches(feeds()[0]), ckpt_path=tmp_path / "failed.ckpt")
    assert model.trained == epochs(0, 1, 2)[8:]


def test_the_section_of_the_page_trains(run_section):
    names = run_section("PyTorch Lightning")
    assert names["train"].state()["epoch"] == 3
    assert names["resumed"].global_step == 30
