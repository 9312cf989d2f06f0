"""The feed: threads that copy rows into slots ahead of need, and mini-batches cut from these.

It takes which rows make a batch from `feedline.order`, and how they come into memory from `feedline.paging`; it knows
no framework and no manifest. Others take `Feed` and its statistics, `Columns` and their
`picker` to name the arrays of a batch, and `Durations` to time things as the feed does.
"""

from feedline.feed.columns import Columns, picker
from feedline.feed.durations import Durations
from feedline.feed.feed import Feed
from feedline.feed.stats import FeedStats

__all__ = ["Columns", "Durations", "Feed", "FeedStats", "picker"]
