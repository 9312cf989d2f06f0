"""What the operator's unit tests have instead of a cluster: documents, a clock, and a small model of Kubernetes."""
