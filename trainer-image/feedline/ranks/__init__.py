"""Several processes that train one model together: who is who, how they are started, and what they agree on.

torch.distributed carries tensors among them (`group`). What is ours is small: how they are started (`processes`) and
find each other (`meeting`), words that they leave for each other in the group's store (`board`), and the step at which
all of them save or end (`agreement`), without a collective a step. What is trained, and what a run is, is not known
here; torch is imported where there is more than one rank, and not before.
"""

from feedline.ranks.agreement import GONE, Agreement, Asked
from feedline.ranks.board import Board
from feedline.ranks.end import end_with_parent
from feedline.ranks.errors import SilentError, has_timed_out, is_of_communication, lost_connection
from feedline.ranks.group import Group
from feedline.ranks.meeting import Meeting, Site, meet
from feedline.ranks.place import ALONE, Place
from feedline.ranks.processes import Ended, Ranks, forking, rank_variables

__all__ = [
    "ALONE",
    "GONE",
    "Agreement",
    "Asked",
    "Board",
    "Ended",
    "Group",
    "Meeting",
    "Place",
    "Ranks",
    "SilentError",
    "Site",
    "end_with_parent",
    "forking",
    "has_timed_out",
    "is_of_communication",
    "lost_connection",
    "meet",
    "rank_variables",
]
