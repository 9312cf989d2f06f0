"""The built-in model in PyTorch."""

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn

from feedline.models.task import Task, means, task_of

if TYPE_CHECKING:
    from feedline.training import Batches, Run


def train(run: "Run") -> None:
    """Train a dense network, and validate it after every epoch."""
    task = task_of(run)
    model = network(task).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.learning_rate)
    run.checkpoint(model=model, optimizer=optimizer)
    network_of_all = run.distribute(model)
    for _ in run.epochs():
        model.train()
        for batch in run.train:
            loss, measured = _measure(network_of_all, task, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.sums.add(measured=measured)
        # The only synchronisation of an epoch: asking a GPU after every step would make it wait.
        run.report(**_means(run, task, run.sums["measured"].tolist(), prefix=""))
        if run.validation is not None:
            run.report(**_means(run, task, _evaluate(model, task, run.validation, run.device), prefix="val_"))


def network(task: Task) -> nn.Sequential:
    """Return the network, from a flattened row to class scores or values."""
    widths = [task.width, *[task.hidden_units] * task.hidden_layers]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], task.outputs))


def _measure(model: nn.Module, task: Task, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of a batch, and its sums of loss, hits and rows."""
    count = len(batch[task.target])
    inputs = torch.cat([batch[name].reshape(count, -1).float() for name in task.inputs], dim=1)
    outputs = model(inputs)
    rows = torch.ones(count, device=inputs.device)
    weights = batch[task.weight].float().flatten() if task.weight is not None else rows
    if task.is_classes:
        classes = batch[task.target].long().flatten()
        losses = nn.functional.cross_entropy(outputs, classes, reduction="none")
        hits = (outputs.argmax(dim=1) == classes).float()
    else:
        losses = (outputs - batch[task.target].float().reshape_as(outputs)).square().mean(dim=1)
        hits = torch.zeros_like(losses)
    total = (losses * weights).sum()
    # By rows and not by weights, as Keras does: the weights of a batch may all be 0.
    return total / count, torch.stack([total, hits.sum(), rows.sum()]).detach()


def _means(run: "Run", task: Task, sums: list[float], prefix: str) -> dict[str, float]:
    """Return what is reported, over the rows of all ranks."""
    return {name: run.mean(value, sums[2]) for name, value in means(task, sums, prefix).items()}


def _evaluate(model: nn.Module, task: Task, batches: "Batches", device: torch.device) -> list[float]:
    """Return the sums of loss, hits and rows."""
    model.eval()
    sums = torch.zeros(3, device=device)
    with torch.no_grad():
        for batch in batches:
            sums += _measure(model, task, batch)[1]
    found: list[float] = sums.tolist()
    return found
