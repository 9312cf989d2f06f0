"""A real Kubernetes for the tests, built from Go modules; README.md here says how it works.

Two levels: `ApiCluster` (etcd, kube-apiserver and kube-controller-manager, no root) and `NodeCluster` (the same with one
node that runs pods, root). Whatever either makes lies in one folder below the temporary directory, and nothing of it
outlives the process that started it.
"""
