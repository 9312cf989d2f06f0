"""What compiled code does, where it was built, and NumPy else; both give the same bytes.

Nothing in here knows a file, a thread or a batch. Others take `gather` for rows, `conversion` for numbers, `shuffler`
for orders; each is None where NumPy has to do it.
"""

from feedline.native.library import copied_by
from feedline.native.numbers import Conversion, conversion
from feedline.native.order import Shuffler, shuffler
from feedline.native.rows import Gather, gather

__all__ = ["Conversion", "Gather", "Shuffler", "conversion", "copied_by", "gather", "shuffler"]
