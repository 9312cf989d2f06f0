"""The ranks of one training as one of them has them: tensors by torch.distributed, words by the store."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from feedline.contract import ENV_PEER_TIMEOUT, PEER_TIMEOUT_SECONDS
from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.ranks.board import Board
from feedline.ranks.place import Place

_CONNECT_SECONDS: Final = 60.0


class Group:
    """The ranks of one training.

    Parameters
    ----------
    place
        Which of them this is.
    environment
        torchrun's variables.

    Attributes
    ----------
    timeout
        Seconds after which a rank that does not answer is given up.
    is_used
        Whether a model was distributed.
    is_on_gpu
        Whether each rank has a GPU, so that tensors there go by NCCL.
    """

    def __init__(self, place: Place, environment: Mapping[str, str] = os.environ) -> None:
        import torch
        from torch import distributed

        self.place = place
        self.timeout = int(environment.get(ENV_PEER_TIMEOUT, PEER_TIMEOUT_SECONDS))
        self._environment, self.is_used = environment, False
        self.is_on_gpu = torch.cuda.is_available()
        if self.is_on_gpu and (there := torch.cuda.device_count()) < place.local_world:
            raise EnvironmentInvalidError(
                f"{place.local_world} processes need an accelerator each, and there are {there}: take fewer processes"
            )
        if self.is_on_gpu:
            torch.cuda.set_device(place.local_rank)
        if place.world == place.local_world:
            # Nothing leaves the machine, whose own name may mean another one.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        backend = "cpu:gloo,cuda:nccl" if self.is_on_gpu else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(seconds=self.timeout))

    def board(self) -> Board:
        """Return a connection to the store."""
        return Board.connect(self._environment, _CONNECT_SECONDS)

    def distribute(self, model: Any) -> Any:
        """Return a module whose gradients are the mean of those of all ranks.

        Raises
        ------
        UsageError
            It is none of torch, or is distributed already.
        """
        import torch
        from torch.nn.parallel import DistributedDataParallel

        if isinstance(model, DistributedDataParallel):
            raise UsageError("run.distribute: the model is distributed already: pass it as it was, and once")
        if not isinstance(model, torch.nn.Module):
            raise UsageError(f"run.distribute: a {type(model).__qualname__} is no torch.nn.Module: pass the model")
        self.is_used = True
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        devices = {parameter.device.type for parameter in model.parameters()}
        on_gpu = devices == {"cuda"}
        return DistributedDataParallel(model, device_ids=[self.place.local_rank] if on_gpu else None)

    def mean(self, value: Any, rows: float) -> float:
        """Return the mean of a value over all ranks, each with the weight of its rows; 0 rows: it has none."""
        import torch
        from torch import distributed

        plain = float(value.detach() if hasattr(value, "detach") else value) if rows else 0.0
        both = torch.tensor([plain * rows, rows], dtype=torch.float64)
        distributed.all_reduce(both)
        return float(both[0] / both[1]) if float(both[1]) else float("nan")

    def close(self) -> None:
        """Leave the group."""
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()
