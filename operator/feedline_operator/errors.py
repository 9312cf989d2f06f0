"""How a call to the API server can fail, by what there is to do about it."""


class ClusterError(Exception):
    """A call that failed. The message is one sentence for a person."""


class GoneError(ClusterError):
    """The object is not there any more (404)."""


class StaleError(ClusterError):
    """The object changed since it was read (409): look again."""


class ExistsError(ClusterError):
    """An object of that name is there already (409)."""


class RefusedError(ClusterError):
    """The server understood and does not want it (400, 403): a quota, a policy, a webhook, a missing right."""


class NamespaceGoesError(RefusedError):
    """Nothing new is taken: the namespace is being deleted (403)."""


class InvalidError(ClusterError):
    """The object is wrong (422), and will be tomorrow."""


class ChildRefusedError(ClusterError):
    """A namespace does not take a pipeline's Job or a sweep's trial, which says so; nothing is wrong here."""


class BusyError(ClusterError):
    """The server asks for patience (429, 5xx); `retry_after_seconds` is how long, 0 if it did not say."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(ClusterError):
    """No answer: the network, a time-out, or a server that is down. Whether a write took effect is unknown."""


class CredentialsError(ClusterError):
    """There is nothing to show to the API server, nor its address: somebody has to set the process up."""


class NotLeadingError(ClusterError):
    """The Lease is not this replica's (any more), so it must not write."""
