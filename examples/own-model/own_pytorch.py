"""A model of one's own in PyTorch: a small convolutional network for the digits."""

import torch
from torch import nn

import feedline


def train(run: feedline.Run) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    ).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.parameters["learningRate"])
    run.checkpoint(model=model, optimizer=optimizer)  # goes on from what was saved, and saves from now on
    for _ in run.epochs():
        for batch in run.train:  # one epoch of dicts of tensors, on run.device
            loss = nn.functional.cross_entropy(model(batch["features"].unsqueeze(1)), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            hits = [model(each["features"].unsqueeze(1)).argmax(1) == each["labels"] for each in run.validation]
        run.report(loss=loss, val_accuracy=torch.cat(hits).float().mean())
