"""A program of one's own, started by `spec.train.command`: it asks feedline for the run instead of being called."""

import own_pytorch

import feedline

run = feedline.Run.from_environment()
own_pytorch.train(run)
print(f"trained {run.train.steps} steps, accuracy {run.values['val_accuracy']:.3f}")
