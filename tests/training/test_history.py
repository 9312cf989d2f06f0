"""`history.csv`: every report a line, no step twice, nothing lost to a disk that is full for a while."""

import csv
import errno
import os
from fractions import Fraction

from feedline.training.history import History, Reported


def lines(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_report_is_a_line(tmp_path):
    history = History(tmp_path)
    history.add(10, 0, 1.5, {"loss": 0.25})
    history.add(20, 1, 3.0, {"loss": float("nan")})
    assert (tmp_path / "history.csv").read_text() == "step,epoch,seconds,loss\n10,0,1.500,0.25\n20,1,3.000,nan\n"


def test_what_is_reported_by_the_name_of_a_column_is_kept_besides(tmp_path):
    History(tmp_path).add(10, 2, 100.0, {"seconds": 5.0, "epoch": 7.0})
    (line,) = lines(tmp_path)
    assert (line["seconds"], line["epoch"]) == ("100.000", "2")
    assert Reported(tmp_path, "seconds").curve() == ((10, 5.0),)
    assert Reported(tmp_path, "epoch").curve() == ((10, 7.0),)
    assert Reported(tmp_path, "step").curve() == ()


def test_who_follows_a_history_has_each_line_once(tmp_path):
    follower = Reported(tmp_path, "loss")
    assert follower.curve() == ()
    history = History(tmp_path)
    for step in range(1, 4):
        history.add(step, 0, step, {"loss": step / 2})
        assert follower.curve(2) == tuple((2 * each, each / 2) for each in range(1, step + 1))
    with (tmp_path / "history.csv").open("a") as file:
        file.write("4,0,4")
        file.flush()
        assert len(follower.curve(2)) == 3, "a line that is not whole"
        file.write(".0,9\n")
    assert follower.curve(Fraction(3, 2))[2:] == ((4, 1.5), (6, 9.0))
    history.add(5, 0, 5, {"loss": 1, "new": 2})  # which writes the file anew
    assert follower.curve() == tuple(Reported(tmp_path, "loss").curve())
    again = History(tmp_path)
    again.cut(1)
    assert follower.curve() == ((1, 0.5),)
    (tmp_path / "history.csv").unlink()
    assert follower.curve() == ()


def test_a_name_that_is_new_becomes_a_column(tmp_path):
    history = History(tmp_path)
    history.add(10, 0, 1, {"loss": 0.25})
    history.add(10, 0, 2, {"val_loss": 0.5, 'odd, "name"': 1.0})
    history.add(20, 1, 3, {"loss": 0.125})
    assert [line["loss"] for line in lines(tmp_path)] == ["0.25", "", "0.125"]
    assert [line["val_loss"] for line in lines(tmp_path)] == ["", "0.5", ""]
    assert lines(tmp_path)[1]['odd, "name"'] == "1.0"


def test_it_is_cut_to_what_a_checkpoint_had_and_goes_on_there(tmp_path):
    first = History(tmp_path)
    for step in range(5):
        first.add(step, 0, step, {"loss": step})
    with (tmp_path / "history.csv").open("a") as file:
        file.write("5,0,5.0")  # the process was killed while it wrote
    second = History(tmp_path)
    second.cut(3)
    assert second.rows == 3
    second.add(3, 0, 9, {"loss": 3.5})
    assert [line["step"] for line in lines(tmp_path)] == ["0", "1", "2", "3"]
    assert lines(tmp_path)[3]["loss"] == "3.5"


def test_a_run_that_begins_anew_keeps_none_of_the_lines_of_another(tmp_path):
    History(tmp_path).add(7, 0, 1, {"loss": 1})
    History(tmp_path).add(1, 0, 1, {"loss": 2})
    assert [line["step"] for line in lines(tmp_path)] == ["1"]


def test_lines_wait_for_a_disk_that_is_full(tmp_path, monkeypatch, caplog):
    history = History(tmp_path)
    history.add(1, 0, 1, {"loss": 1})
    write = os.write

    def half(descriptor, content):
        if len(content) < 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[: len(content) // 2])

    with monkeypatch.context() as full:
        full.setattr(os, "write", half)
        history.add(2, 0, 2, {"loss": 2})
        history.add(3, 0, 3, {"loss": 3})
    assert [line["step"] for line in lines(tmp_path)] == ["1"]
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    history.add(4, 0, 4, {"loss": 4})
    assert [line["step"] for line in lines(tmp_path)] == ["1", "2", "3", "4"]
    assert history.rows == 4
