"""What becomes of a batch on its way to the model, in the feed's threads."""

import numpy as np

import feedline


def shifted(batch: dict[str, np.ndarray], context: feedline.Context) -> dict[str, np.ndarray]:
    """Move every picture of the training by up to a pixel, up or down and to a side."""
    if context.is_training:
        pictures = batch["features"]  # [n, 8, 8]
        padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
        crops = np.lib.stride_tricks.sliding_window_view(padded, pictures.shape[1:], axis=(1, 2))  # [n, 3, 3, 8, 8]
        down, across = context.integers(3, 2).T
        batch["features"] = crops[np.arange(len(pictures)), down, across]
    return batch
