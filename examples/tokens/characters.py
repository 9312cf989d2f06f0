"""A small recurrent network that says which character comes next."""

import torch
from torch import nn

import feedline

CHARACTERS = 128


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, 32)
        self.recurrent = nn.GRU(32, 128, batch_first=True)
        self.head = nn.Linear(128, CHARACTERS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.recurrent(self.embedding(tokens))
        return self.head(hidden).transpose(1, 2)


def train(run: feedline.Run) -> None:
    model = Network().to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.parameters["learningRate"])
    run.checkpoint(model=model, optimizer=optimizer)

    def loss_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch["context"]), batch["following"])

    for _ in run.epochs():
        for batch in run.train:
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses = [loss_of(batch) for batch in run.validation]
        run.report(loss=loss, val_loss=torch.stack(losses).mean())
