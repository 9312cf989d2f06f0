"""A feed in the `Trainer` of Transformers: which rows it trains on, looks at and goes on with."""

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments, default_data_collator

import feedline
from feedline import pytorch
from feedline.errors import UsageError
from feedline.order.permutation import permutation

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the Trainer's advice on its own arguments
]

BATCHES = [batch for epoch in range(6) for batch in permutation(50, 0, epoch).reshape(-1, 10).tolist()]


class Watching(torch.nn.Module):
    """Notes the labels of every batch that it is given, and predicts them."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.trained, self.evaluated = [], []

    def forward(self, features, labels, names=None):
        (self.trained if self.training else self.evaluated).append(labels.tolist())
        return {"loss": self.layer(features[:, 0, :1]).mean(), "logits": labels.reshape(-1, 1).float()}


class FeedTrainer(Trainer):
    """As the page has it."""

    def get_train_dataloader(self):
        return self._prepared(self.train_dataset)

    def get_eval_dataloader(self, eval_dataset=None):
        return self._prepared(eval_dataset or self.eval_dataset)

    def get_test_dataloader(self, test_dataset):
        return self._prepared(test_dataset)

    def _prepared(self, batches):
        return self.accelerator.prepare(DataLoader(batches, batch_size=None))


@pytest.fixture
def trainer(numbered, tmp_path):
    """Return a function that makes a Trainer of three epochs, and feeds, as a new process would."""
    arrays, feeds = numbered(50), []

    def trainer(kind=FeedTrainer, *, data_collator=None, **options):
        feeds.append(feedline.Feed(arrays, 10))
        feeds.append(feedline.Feed(arrays, 20, shuffle="none", last_batch="keep"))
        quiet = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "report_to": []}
        quiet |= {"use_cpu": True, "num_train_epochs": 3, "output_dir": tmp_path / "saved", "learning_rate": 1e-6}
        train, evaluation = map(pytorch.batches, feeds[-2:])
        return kind(
            Watching(),
            TrainingArguments(**quiet | options),
            data_collator=data_collator,
            train_dataset=train,
            eval_dataset=evaluation,
        )

    yield trainer
    for feed in feeds:
        feed.close()


OPTIONS = {
    "defaults": ({}, BATCHES[:15]),
    "gradient_accumulation_steps": ({"gradient_accumulation_steps": 2}, BATCHES[:15]),
    "max_steps": ({"max_steps": 7}, BATCHES[:7]),
}


@pytest.mark.parametrize(("options", "trained"), OPTIONS.values(), ids=OPTIONS)
def test_epoch_e_is_epoch_e_of_the_feed(trainer, options, trained):
    made = trainer(**options)
    made.train()
    assert made.model.trained == trained
    assert made.state.max_steps == made.state.global_step


def test_evaluation_and_prediction_see_every_row_in_order(trainer):
    made = trainer(eval_strategy="epoch")
    made.train()
    assert made.model.trained == BATCHES[:15]
    assert [row for batch in made.model.evaluated for row in batch] == 3 * list(range(50))
    assert made.predict(made.eval_dataset).predictions.ravel().tolist() == list(range(50))


def test_a_checkpoint_goes_on_with_the_next_batch(trainer, tmp_path):
    trainer(save_strategy="steps", save_steps=1, max_steps=12).train()
    for step in (3, 5, 8, 10, 12):
        made = trainer(num_train_epochs=4)
        made.train(resume_from_checkpoint=str(tmp_path / "saved" / f"checkpoint-{step}"))
        assert made.model.trained == BATCHES[step:20], step


NAIVE = {"8 a device": {}, "1 a device": {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1}}
NAIVE["all columns"] = {"remove_unused_columns": False}
NAIVE["a collator of theirs"] = {"data_collator": default_data_collator}


@pytest.mark.parametrize("options", NAIVE.values(), ids=NAIVE)
def test_a_trainer_that_would_stack_batches_says_what_to_do(trainer, options):
    made = trainer(Trainer, **options)
    for begin in (made.train, made.evaluate):
        with pytest.raises(UsageError, match=r"stack them: have its get_train_dataloader .*batch_size=None"):
            begin()
    assert made.model.trained == made.model.evaluated == []


def test_a_collator_of_ones_own_may_hand_the_one_batch_through(trainer):
    made = trainer(Trainer, data_collator=lambda batches: batches[0], per_device_train_batch_size=1)
    made.train()
    assert made.model.trained == BATCHES[:15]


def test_the_section_of_the_page_trains_and_goes_on(run_section):
    names = run_section("Transformers")
    assert names["train"].state()["epoch"] == 2
    assert names["trainer"].state.global_step == 20
