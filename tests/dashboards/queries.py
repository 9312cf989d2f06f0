"""What the dashboards ask, as tests need it: `queries(dashboard, variables)` gives (panel, refId, expression)."""

import json
from pathlib import Path

import promql_parser
from promql_parser import MatrixSelector, VectorSelector
from substitution import MACROS, panels, queries, substitute

__all__ = ["FOLDER", "MACROS", "NAMES", "VARIABLES", "loaded", "panels", "queries", "selectors", "substitute"]

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
NAMES = ("pipeline", "fleet", "operator")
VARIABLES = {"datasource": "prometheus", "namespace": ".+", "pipeline": "digits", "operator_namespace": ".+"}


def loaded(name):
    """Return a dashboard's JSON."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def selectors(expr):
    """Return the vector selectors of an expression."""
    found = []

    def visit(node):
        if isinstance(node, VectorSelector):
            found.append(node)
        elif isinstance(node, MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found
