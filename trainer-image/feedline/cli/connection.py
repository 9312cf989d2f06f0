"""Which cluster a command talks to: its options, and the credentials that kubectl would use."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from feedline.cli.cluster import Cluster
from feedline.cli.printable import sentence
from feedline.errors import EnvironmentInvalidError

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A pipeline in the cluster.")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Default: the namespace of the context.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="A context of the kubeconfig. Default: the current one.")
]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", metavar="FILE", help="Default: $KUBECONFIG, then ~/.kube/config.")
]
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(namespace: str | None, context: str | None, kubeconfig: str | None) -> Cluster:
    """Return the cluster that kubectl would use: the kubeconfig's, and inside a pod without one, the pod's own.

    Parameters
    ----------
    namespace, context, kubeconfig
        What the user asked for; None takes the context's namespace, the current context, and `$KUBECONFIG` or
        ``~/.kube/config``.

    Raises
    ------
    EnvironmentInvalidError
        There is no cluster to talk to, or the package `kubernetes` is not installed.
    """
    try:
        import kubernetes
    except ImportError:
        raise EnvironmentInvalidError(
            "the package kubernetes is not installed here: pip install 'feedline[cluster]'"
        ) from None
    import yaml

    config: Any = kubernetes.config  # untyped
    configuration: Any = kubernetes.client.Configuration()
    files = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    if kubeconfig is not None and not Path(kubeconfig).expanduser().is_file():
        raise EnvironmentInvalidError(f"--kubeconfig {kubeconfig}: there is no such file")
    try:
        merged = config.kube_config.KubeConfigMerger(files)
        if merged.config is not None:
            loader = config.kube_config.KubeConfigLoader(
                merged.config, active_context=context, config_persister=merged.save_changes
            )
            loader.load_and_set(configuration)
            return Cluster(configuration, namespace or loader.current_context["context"].get("namespace") or "default")
    except (config.ConfigException, yaml.YAMLError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise EnvironmentInvalidError(f"the kubeconfig {files} cannot be used: {sentence(str(error), 300)}") from None
    try:
        config.load_incluster_config(client_configuration=configuration)
        own = (_SERVICE_ACCOUNT / "namespace").read_text().strip()
    except (config.ConfigException, OSError):
        raise EnvironmentInvalidError(
            f"no cluster to talk to: there is no kubeconfig ({files}), and this is no pod; pass --kubeconfig FILE"
        ) from None
    return Cluster(configuration, namespace or own)
