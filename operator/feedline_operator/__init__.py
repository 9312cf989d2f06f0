"""The control plane of feedline: what turns a TrainingPipeline into pods.

It may import `feedline.contract` and nothing else of the trainer.
"""
