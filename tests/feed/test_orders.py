"""The orders of epochs are computed once each, and no more than two are kept."""

import pytest

from feedline.feed import orders
from feedline.feed.claims import Position
from feedline.feed.orders import Orders
from feedline.order import Plan, order


@pytest.fixture
def computed(monkeypatch):
    """Return a list of the epochs whose order was computed, in turn."""
    epochs = []

    def counted(rows, shuffle, seed, epoch, draw, phases):
        epochs.append(epoch)
        return order(rows, shuffle, seed, epoch, draw, phases)

    monkeypatch.setattr(orders, "order", counted)
    return epochs


def test_an_order_is_computed_once_while_its_epoch_or_the_one_before_is_read(computed):
    known = Orders(Plan(100, 10), "full", 7)
    for epoch in (0, 1, 0, 1, 2, 1, 2):
        known.get(epoch)
    assert computed == [0, 1, 2]


def test_an_order_two_epochs_back_is_let_go(computed):
    known = Orders(Plan(100, 10), "full", 7)
    for epoch in (0, 1, 2, 0):
        known.get(epoch)
    assert computed == [0, 1, 2, 0]


def test_an_order_that_was_prepared_is_there(computed):
    known = Orders(Plan(100, 10), "full", 7)
    known.prepare(3)
    rows = known.rows(Position(3, 2), batches=3)
    assert rows.tolist() == order(100, "full", 7, 3).rows(20, 50).tolist()
    assert computed == [3]
