"""What people use today to feed Keras, TensorFlow and PyTorch from `.npy` files: one readable page per framework.

They are the other side of every comparison and the way to move over from. So each does what its users do, at its
best, and nothing of our own feed is in here but the checks of the files and the arithmetic of an epoch. A page knows no
manifest and no run; others take it as it is, and `load` for the rows.
"""

from feedline.classic.rows import load, plan

__all__ = ["load", "plan"]
