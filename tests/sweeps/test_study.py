"""Trials as a study of Optuna's, read back by Optuna and shown by its dashboard."""

import json
import math
import re
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

import pytest

from feedline.errors import UsageError
from feedline.sweeps import State, Trial, suggest, write_study

CURVES = [((100, 0.5), (200, 0.25)), ((100, math.nan), (200, 2.0)), (), ((50, math.inf),)]
STATES = [State.COMPLETE, State.PRUNED, State.RUNNING, State.FAILED]


@pytest.fixture
def written(sweep, tmp_path):
    """Return a sweep, its trials, and where they were written."""
    asked, where = sweep(), f"sqlite:///{tmp_path}/trials.db"
    trials = [
        Trial(index, suggest(asked, index, []), STATES[index % 4], CURVES[index % 4], 100, "why" if index % 4 else "")
        for index in range(12)
    ]
    write_study(asked, trials, where)
    return asked, trials, where


def test_optuna_reads_what_was_written(written):
    import optuna

    asked, trials, where = written
    study = optuna.load_study(study_name=asked.name, storage=where)
    assert [each.state.name for each in study.trials] == ["COMPLETE", "PRUNED", "RUNNING", "FAIL"] * 3
    assert study.direction.name == "MINIMIZE"
    assert study.user_attrs == {"objective": "val_loss"}
    assert study.best_value == 0.25
    assert study.trials[0].intermediate_values == {100: 0.5, 200: 0.25}
    assert study.trials[1].user_attrs == {"trial": "lr-search-1", "why": "why"}
    assert study.trials[3].params["learningRate"] == trials[3].parameters["learningRate"]
    # true and 1 are two choices, which Optuna takes for one.
    assert {each.params["optimizer"] for each in study.trials} <= {"'sgd'", "'adamw'", "True", "1"}


@pytest.mark.parametrize("method", ["create_study", "add_trials"])
@pytest.mark.parametrize("error", [RuntimeError("made by another version"), ValueError("no room")])
def test_what_cannot_be_written_leaves_no_study_in_the_way(sweep, tmp_path, monkeypatch, method, error):
    import optuna

    def fail(*_, **__):
        raise error

    where, trials = (
        f"sqlite:///{tmp_path}/other.db",
        [Trial(0, suggest(sweep(), 0, []), State.COMPLETE, CURVES[0], 100)],
    )
    with monkeypatch.context() as patched:
        patched.setattr(optuna if method == "create_study" else optuna.Study, method, fail)
        with pytest.raises(UsageError, match=f"cannot be written .{error}."):
            write_study(sweep(), trials, where)
    write_study(sweep(), trials, where)
    assert len(optuna.load_study(study_name="lr-search", storage=where).trials) == 1


def test_its_dashboard_shows_it(written):
    import optuna
    from optuna_dashboard import wsgi

    asked, _, where = written
    application = wsgi(optuna.storages.get_storage(where))

    def get(path):
        said = []
        environment = {"PATH_INFO": path}
        setup_testing_defaults(environment)
        body = b"".join(application(environment, lambda status, *_: said.append(status)))
        assert said[0].startswith("200"), (path, said, body)
        return body.decode()

    (study,) = json.loads(get("/api/studies"))["study_summaries"]
    assert study["study_name"] == asked.name
    shown = json.loads(get(f"/api/studies/{study['study_id']}"))
    assert len(shown["trials"]) == 12
    assert re.search(r"<html", get(f"/dashboard/studies/{quote(str(study['study_id']))}"))


def test_where_it_cannot_be_written_is_told(written, sweep, tmp_path):
    asked, trials, where = written
    with pytest.raises(UsageError, match=r"has a study lr-search already; name another file"):
        write_study(asked, trials, where)
    for wrong in ("trials.db", f"sqlite:///{tmp_path}/nowhere/trials.db", "nothing://here"):
        with pytest.raises(UsageError, match=r"cannot be written .*name a file as sqlite:///FILE\.db"):
            write_study(asked, trials, wrong)
