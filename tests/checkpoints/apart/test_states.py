"""What can be saved of an object comes back as it was; what cannot is refused in a sentence."""

import random

import numpy as np
import pytest

from feedline.checkpoints import Opened, Record, Writer, checkpoints, read_state, state_of
from feedline.errors import DataError, UsageError

pytestmark = pytest.mark.trainer
torch = pytest.importorskip("torch")


def saved(path, **objects):
    """Save objects and return what opens the checkpoint."""
    writer = Writer(path, "me", 2)
    facts = {"epoch": 0, "time": "", "objective": None, "facts": {}, "progress": {}}
    writer.copy(
        {name: state_of(name, thing) for name, thing in objects.items()}, lambda: Record("me", 1, reason="", **facts)
    )
    writer.write("Periodic", None, ())
    writer.wait()
    assert writer.kept.error is None
    (found,) = checkpoints(path)
    return Opened(found)


def restored(opened, **objects):
    for name, thing in objects.items():
        state_of(name, thing).put(read_state(opened, name))


def network():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def trained(model, optimizer, scheduler, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    return model


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 0.1, amsgrad=True),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, 0.1, fused=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, 0.1),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, 0.1),
    "Rprop": lambda parameters: torch.optim.Rprop(parameters, 0.1),
}
SCHEDULERS = {
    "MultiStepLR": lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2, 5]),
    "OneCycleLR": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=20),
    "SequentialLR": lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [torch.optim.lr_scheduler.ConstantLR(optimizer), torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)],
        [2],
    ),
}


@pytest.mark.parametrize("scheduler", ["MultiStepLR"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_goes_on_as_if_nothing_had_been(optimizer, scheduler, tmp_path):
    goes_on(OPTIMIZERS[optimizer], SCHEDULERS[scheduler], tmp_path)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_schedule_goes_on_as_if_nothing_had_been(scheduler, tmp_path):
    goes_on(OPTIMIZERS["SGD"], SCHEDULERS[scheduler], tmp_path)


def goes_on(make_optimizer, make_scheduler, path):
    torch.manual_seed(0)

    def made():
        model = network()
        optimizer = make_optimizer(model.parameters())
        return {"model": model, "optimizer": optimizer, "scheduler": make_scheduler(optimizer)}

    before = made()
    trained(**before)
    opened = saved(path, **before)
    after = made()
    restored(opened, **after)
    opened.close()
    for name, thing in before.items():
        assert same(thing.state_dict(), after[name].state_dict()), name
    torch.manual_seed(1)
    trained(**before)
    torch.manual_seed(1)
    trained(**after)
    assert same(before["model"].state_dict(), after["model"].state_dict())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int8", "bool", "complex64", "float8_e4m3fn"])
def test_a_tensor_of_any_dtype_comes_back_with_its_bits(dtype, tmp_path):
    values = torch.randn(7).mul(10).to(getattr(torch, dtype))

    class Own:
        def __init__(self):
            self.state = None

        def state_dict(self):
            return {"strided": values[::2], "none": values[:0], "one": values[3]}

        def load_state_dict(self, state):
            self.state = state

    own = Own()
    opened = saved(tmp_path, own=own)
    restored(opened, own=own)
    assert own.state.keys() == {"strided", "none", "one"}
    for name, tensor in own.state_dict().items():
        assert own.state[name].dtype == tensor.dtype
        assert own.state[name].shape == tensor.shape
        assert bytes(own.state[name].contiguous().flatten().view(torch.uint8)) == bytes(
            tensor.contiguous().flatten().view(torch.uint8)
        )


def test_random_generators_go_on_where_they_were(tmp_path):
    made = {"numpy": np.random.default_rng(3), "python": random.Random(3), "torch": torch.Generator().manual_seed(3)}
    opened = saved(tmp_path, **made)

    def drawn():
        numbers = made["numpy"].random(3).tolist(), made["python"].random()
        return numbers, torch.rand(3, generator=made["torch"]).tolist()

    first = drawn()
    assert drawn() != first
    restored(opened, **made)
    assert drawn() == first


def test_tensors_that_are_one_are_saved_and_stay_one(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.out = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
            self.out.weight = self.into.weight

    one, other = Tied(), Tied()
    restored(saved(tmp_path, model=one), model=other)
    assert torch.equal(one.into.weight, other.out.weight)
    assert other.out.weight is other.into.weight


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda: torch.nn.Sequential(torch.nn.Linear(4, 8)), r"the model has no: 1\.weight, 1\.bias, .* and 3 more"),
        (lambda: torch.nn.Sequential(*network(), torch.nn.Linear(2, 2)), r"it has no: 4\.weight, 4\.bias"),
        (
            lambda: torch.nn.Sequential(*list(network())[:3], torch.nn.Linear(8, 3)),
            r"of another shape: 3\.weight was \[2, 8\] and is \[3, 8\], 3\.bias was \[2\] and is \[3\]",
        ),
    ],
    ids=["fewer layers", "more layers", "another width"],
)
def test_a_model_whose_layers_changed_is_named_by_its_tensors(other, told, tmp_path):
    opened = saved(tmp_path, model=network())
    with pytest.raises(
        DataError, match=rf"run\.checkpoint: model is not the model that was saved \({told}.*start anew"
    ):
        restored(opened, model=other())


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (5, "model is a int, which has no state to be saved"),
        ("weights.pt", "model is a str, which has no state"),
        (torch.nn.LazyLinear(3), "model has parameters without a shape yet (weight): show it a batch first"),
        ([], "model is a list, which has no state"),
    ],
    ids=str,
)
def test_an_object_without_a_state_is_refused(thing, told):
    with pytest.raises(UsageError, match=r"^run\.checkpoint: ") as refused:
        state_of("model", thing)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), r"in the state of own, it\.is\.0 is a builtins\.object, which cannot be saved without pickling it"),
        (torch.zeros(3).to_sparse(), r"in the state of own, it\.is\.0 is sparse, which cannot be saved"),
        (np.array(["a"]), r"in the state of own, it\.is\.0 is of dtype str32, which cannot be saved"),
    ],
    ids=["an object", "a sparse tensor", "text in an array"],
)
def test_a_state_that_cannot_be_saved_is_refused_with_its_place(value, told, tmp_path):
    class Own:
        def state_dict(self):
            return {"it": {"is": [value]}}

        def load_state_dict(self, state):
            pass

    with pytest.raises(UsageError, match=told):
        saved(tmp_path, own=Own())
