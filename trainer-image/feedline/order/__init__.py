"""Which rows make batch k of epoch e on rank r: pure functions of seed, epoch, step, rank, world and sizes.

Nothing in here knows a file or a thread. Others take `order` and the shape of an epoch, `Plan`, and of block shuffle
its `Blocks` and what they cost, `price`, of rows that come more or less often the `Draw`, of windows that begin
elsewhere in each epoch the `Phases`, and of what is divided among ranks without a rest the `share` of each.
"""

from feedline.order.blocks import Blocks
from feedline.order.draw import Draw, balanced
from feedline.order.mixing import price
from feedline.order.phases import Phases
from feedline.order.plan import LastBatch, Plan
from feedline.order.shares import share
from feedline.order.shuffle import Order, Shuffle, is_computed, order, version

__all__ = [
    "Blocks",
    "Draw",
    "LastBatch",
    "Order",
    "Phases",
    "Plan",
    "Shuffle",
    "balanced",
    "is_computed",
    "order",
    "price",
    "share",
    "version",
]
