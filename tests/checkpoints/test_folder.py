"""Which checkpoint a run goes on with, and which ones stay."""

import json

import pytest

from feedline.checkpoints import checkpoints, problem_of
from feedline.errors import DataError


def test_the_newest_is_gone_on_with(kept):
    for step in (3, 1200, 40):
        kept.save(step, keep=5)
    assert kept.newest() == 1200
    assert kept.steps == [1200, 40, 3]


def test_there_is_none_where_there_is_no_folder(kept):
    assert checkpoints(kept.path) == []


def test_only_the_newest_and_the_best_stay(kept):
    for step in range(1, 8):
        kept.save(step, keep=2, best=3 if step >= 3 else None)
    assert kept.steps == [7, 6, 3]


def test_what_is_saved_again_at_the_same_step_takes_the_place_of_the_first(kept):
    kept.save(5)
    kept.save(6)
    kept.save(6)
    assert kept.steps == [6, 5]
    assert [found.path.name for found in checkpoints(kept.path)] == ["step-000000000006-1", "step-000000000005"]


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def removed(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncated, emptied, removed])
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_one_that_is_torn_is_passed_over(kept, name, damage):
    kept.save(1)
    path, _ = kept.save(2)
    damage(path / name)
    assert kept.newest() == 1
    (torn, _) = checkpoints(kept.path)
    assert torn.problem


def test_a_bit_that_turned_in_the_manifest_is_seen(kept):
    kept.save(1)
    path, _ = kept.save(2)
    flipped(path / "manifest.json")
    assert kept.newest() == 1


def test_a_bit_that_turned_in_a_file_is_seen_when_it_is_read(kept):
    path, _ = kept.save(2)
    flipped(path / "model.safetensors")
    (found,) = checkpoints(kept.path)
    assert problem_of(found) == "model.safetensors was changed or damaged"
    with pytest.raises(DataError, match=r"step-000000000002: model\.safetensors was changed or damaged"):
        kept.newest()


def test_one_of_another_run_is_named_and_stays(kept):
    kept.save(9, run="another")
    kept.save(1)
    assert kept.newest() == 1
    assert [found.problem for found in checkpoints(kept.path, "me")] == ["it is of another run", None]
    for step in (10, 11, 12):
        kept.save(step)
    assert kept.steps == [12, 11, 9]


def test_one_that_was_renamed_is_passed_over(kept):
    path, _ = kept.save(2)
    path.rename(path.with_name("step-000000000300"))
    assert kept.newest() is None


def test_one_of_a_format_that_is_not_known_is_passed_over(kept):
    path, whole = kept.save(2)
    from feedline.checkpoints import record

    document = json.loads(record.write(whole))
    document["checkpoint"]["format"] = 2
    import zlib

    document["crc32"] = zlib.crc32(record._canonical(document["checkpoint"]))
    (path / "manifest.json").write_text(json.dumps(document))
    (found,) = checkpoints(kept.path)
    assert "a format that this version of feedline does not know" in found.problem


def test_what_was_never_finished_goes_with_the_next_one(kept):
    kept.save(1)
    path, _ = kept.save(2)
    (path / "manifest.json").unlink()
    assert [found.was_begun for found in checkpoints(kept.path)] == [True, False]
    kept.save(3)
    assert not path.exists()


def test_folders_that_are_none_are_let_alone(kept):
    kept.save(1)
    (kept.path / "mine").mkdir()
    (kept.path / "step-5").mkdir()
    strange = kept.path / "step-000000000000"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    kept.save(2)
    kept.save(3)
    assert sorted(path.name for path in kept.path.iterdir()) == [
        "mine",
        "step-000000000000",
        "step-000000000002",
        "step-000000000003",
        "step-5",
    ]
