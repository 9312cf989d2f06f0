"""The verdict as a condition: whether the data holds the model back, by how much, and what to do.

It turns at two thresholds, not at one, so that a pipeline at the border does not flicker.
"""

from typing import Final

from feedline.contract import Cause
from feedline_operator.reconcile.observed import Object
from feedline_operator.untrusted import word

TRUE_ABOVE_PERMILLE: Final = 100
FALSE_BELOW_PERMILLE: Final = 70


def input_bound(report: Object | None, previous: Object | None) -> tuple[str, str, str]:
    """Return status, reason and message of the condition InputBound.

    Parameters
    ----------
    report
        The newest numbers of the newest attempt, None if there are none.
    previous
        The condition as it was written last.
    """
    if report is None:
        return "Unknown", "NoNumbers", "The trainer has not been asked for its feed yet, or cannot be reached."
    wait, verdict = report.get("waitPermille"), report.get("verdict", {})
    cause, advice = word(verdict.get("cause"), Cause.UNKNOWN), verdict.get("advice", "")
    if wait is None:
        return "Unknown", cause, advice or "No batch has been trained on yet."
    between = FALSE_BELOW_PERMILLE <= wait <= TRUE_ABOVE_PERMILLE
    if between and previous is not None and previous["status"] == "True":
        return "True", previous["reason"], _sentence(report, wait, "")
    return "True" if wait > TRUE_ABOVE_PERMILLE else "False", cause, _sentence(report, wait, advice)


def _sentence(report: Object, wait: int, advice: str) -> str:
    rates = ""
    if "feedSamplesPerSecond" in report and "modelSamplesPerSecond" in report:
        rates = (
            f"; the feed could deliver {report['feedSamplesPerSecond']} rows/s, "
            f"the model take {report['modelSamplesPerSecond']}"
        )
    share = f"{wait / 10:.1f}".removesuffix(".0")
    return f"{share} % of the time is spent waiting for data{rates}. {advice}".strip()
