"""Many trainings side by side, trials of a sweep or any others, as one HTML page. Pure.

Others make `Entry`s of what they have, and get a `page` that needs nothing else: no file, no network.
"""

from feedline.overview.drawing import number, text
from feedline.overview.entry import Entry, Overview
from feedline.overview.html import page
from feedline.overview.shares import importance

__all__ = ["Entry", "Overview", "importance", "number", "page", "text"]
