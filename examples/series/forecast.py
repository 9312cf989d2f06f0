"""A model that forecasts the next hours from a week of them."""

import torch
from torch import nn

import feedline


def train(run: feedline.Run) -> None:
    """Train on windows of hours; `val_loss` is the mean squared error in standard deviations."""
    past, coming = (run.train.element_spec[name].row_shape for name in ("past", "coming"))
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(past[0] * past[1], 64), nn.ReLU(), nn.Linear(64, coming[0]), nn.Unflatten(1, coming)
    ).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), run.parameters["learningRate"])
    run.checkpoint(model=model, optimizer=optimizer)
    error = nn.MSELoss()
    for _ in run.epochs():
        model.train()
        for batch in run.train:
            optimizer.zero_grad()
            loss = error(model(batch["past"]), batch["coming"])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            losses = [error(model(batch["past"]), batch["coming"]) for batch in run.validation]
        run.report(loss=loss, val_loss=torch.stack(losses).mean())
