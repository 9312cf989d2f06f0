"""Files that are there as a whole: in the place of what has their name, and behind links and in pipes, too."""

import os
import threading

import pytest

from feedline.training import write_text

pytestmark = pytest.mark.unit


def test_it_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "report.json"
    for text in ("first", "second"):
        write_text(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path, is_there):
    (tmp_path / "where").mkdir()
    target, link = tmp_path / "where" / "target", tmp_path / "link"
    link.symlink_to(target)
    if is_there:
        target.write_text("before")
    write_text(link, "after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_a_link_to_itself_is_an_error_of_the_system(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        write_text(tmp_path / "link", "words")


def test_what_nothing_can_be_put_in_the_place_of_is_written_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "mounted.json"
    path.write_text("before")

    def busy(*_):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(type(path), "replace", busy)
    write_text(path, "after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="busy"):
        write_text(tmp_path / "new.json", "words")


def test_a_pipe_is_written_to(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "words")
    reader.join()
    assert found == ["words"]
    assert list(tmp_path.iterdir()) == [pipe]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_text(path, "before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
