"""Sweeps in a cluster, against a model of the API server."""
