"""A feed whose rows become others on their way: what comes out, whoever gathers it, and what a function may not do."""

import pickle
import re
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import feedline
from feedline.errors import DataError, UsageError, UserFunctionError

ROWS = 203


@pytest.fixture
def arrays(save):
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 6, 7), dtype=np.uint8)
    paths = {
        "image": save("image", images),
        "label": save("label", (np.arange(ROWS) % 10).astype(np.uint16)),
        "name": save("name", np.char.add("row ", np.arange(ROWS).astype(str))),
    }
    return feedline.open_arrays(paths)


def crop(batch, context):
    """Crop at random, mirror at random, and say which row it was."""
    images, offsets = batch["image"], context.integers(3, 2)
    windows = np.lib.stride_tricks.sliding_window_view(images, (4, 5), axis=(1, 2))
    cropped = windows[np.arange(len(images)), offsets[:, 0], offsets[:, 1]]
    mirrored = context.uniform() < 0.5
    cropped[mirrored] = cropped[mirrored][:, :, ::-1]
    return {**batch, "image": cropped, "row": context.rows}


CHAIN = (feedline.Scale("image", 1 / 255), feedline.OneHot("label", 10), crop, feedline.Cast("row", "int32"))


def by_row(arrays, epochs=1, transforms=CHAIN, **options):
    """Return what came of each row in each epoch, with the rows that came."""
    with feedline.Feed(
        arrays, **{"batch_size": 20, "seed": 5, "last_batch": "keep", **options}, transforms=transforms
    ) as feed:
        return [
            {
                int(row): tuple(batch[name][place].tobytes() for name in ("image", "label", "name"))
                for batch in feed
                for place, row in enumerate(batch["row"])
            }
            for _ in range(epochs)
        ]


def test_each_row_becomes_what_its_transforms_make_of_it(arrays):
    stored = arrays["image"].read(0, ROWS)
    with feedline.Feed(arrays, 20, seed=5, last_batch="keep", transforms=CHAIN) as feed:
        specs = {name: (spec.dtype.name, spec.row_shape) for name, spec in feed.element_spec.items()}
        assert specs == {
            "image": ("float32", (4, 5)),
            "label": ("float32", (10,)),
            "name": ("str800", ()),
            "row": ("int32", ()),
        }
        seen = set()
        for batch in feed:
            assert list(batch) == list(specs)
            for image, label, name, row in zip(*batch.values(), strict=True):
                scaled = (stored[row] * np.float32(1 / 255)).astype(np.float32)
                crops = [scaled[y : y + 4, x : x + 5] for y in range(3) for x in range(3)]
                assert any((image == each).all() or (image == each[:, ::-1]).all() for each in crops)
                assert label.tolist() == [float(place == row % 10) for place in range(10)]
                assert name == f"row {row}"
                seen.add(int(row))
        assert seen == set(range(ROWS))


@settings(max_examples=25)
@given(
    options=st.fixed_dictionaries(
        {
            "batch_size": st.integers(1, 60),
            "threads": st.integers(1, 3),
            "prefetch": st.integers(1, 40),
            "shuffle": st.sampled_from(["full", "none", "block"]),
        }
    )
)
def test_what_becomes_of_a_row_depends_on_seed_and_epoch_alone(tmp_path_factory, options):
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "image.npy", np.random.default_rng(0).integers(0, 256, (ROWS, 6, 7), dtype=np.uint8))
    np.save(folder / "label.npy", (np.arange(ROWS) % 10).astype(np.uint16))
    np.save(folder / "name.npy", np.arange(ROWS))
    arrays = feedline.open_arrays({name: folder / f"{name}.npy" for name in ("image", "label", "name")})
    assert by_row(arrays, 2, **options) == by_row(arrays, 2)


def test_ranks_make_the_same_of_a_row(arrays):
    (whole,) = by_row(arrays, last_batch="drop")
    shared = {}
    for rank in range(4):
        (part,) = by_row(arrays, last_batch="drop", rank=rank, world=4)
        shared |= part
    assert shared == whole


def test_a_feed_goes_on_with_the_same_numbers(arrays):
    def taken(feed, count):
        batches = iter(feed)
        return [{name: part.tobytes() for name, part in next(batches).items()} for _ in range(count)]

    with feedline.Feed(arrays, 20, seed=5, transforms=CHAIN) as feed:
        whole = taken(feed, 10)
    with feedline.Feed(arrays, 20, seed=5, transforms=CHAIN) as feed:
        first, state = taken(feed, 4), feed.state()
        copied = pickle.loads(pickle.dumps(feed))
    with feedline.Feed(arrays, 20, seed=5, transforms=CHAIN, state=state) as feed, copied:
        assert first + taken(feed, 6) == whole
        assert taken(copied, 6) == whole[4:]
    with pytest.raises(UsageError, match=r"transforms was .* and is None"):
        feedline.Feed(arrays, 20, seed=5, state=state)
    with pytest.raises(UsageError, match=r"transforms was .*'by': 0\.00392.* and is .*'by': 0\.5"):
        feedline.Feed(arrays, 20, seed=5, transforms=(feedline.Scale("image", 0.5), *CHAIN[1:]), state=state)


def test_who_says_nothing_of_transforms_has_the_state_of_before(arrays):
    with feedline.Feed(arrays, 20) as feed:
        assert "transforms" not in feed.state()["fingerprint"]


@pytest.mark.parametrize("residency", ["auto", "read", "memory", "mapped"])
@pytest.mark.parametrize("row_shape", [(3,), (150, 1000)], ids=["many rows in a piece", "a row larger than a piece"])
def test_pieces_join_without_a_seam(save, residency, row_shape):
    values = np.random.default_rng(1).integers(0, 256, (900, *row_shape), dtype=np.uint8)[
        : 20 if len(row_shape) > 1 else 900
    ]
    arrays = feedline.open_arrays({"x": save("x", values), "n": save("n", np.arange(len(values)))}, residency=residency)
    transforms = [feedline.Cast("x", "int16"), feedline.Scale("x", 2.0), feedline.Concat("x", ["x"])]
    with feedline.Feed(arrays, len(values) // 2 - 1, last_batch="keep", transforms=transforms, threads=2) as feed:
        for batch in feed:
            assert (batch["x"] == values[batch["n"]] * 2.0).all()


def test_columns_of_arrays_that_end_in_one(save):
    a, b = np.arange(60.0).reshape(20, 3), np.arange(20)
    arrays = feedline.open_arrays({"a": save("a", a), "b": save("b", b), "c": save("c", b)})
    transforms = [feedline.Select("a", [2, 0]), feedline.Concat("all", ["a", "b"])]
    with feedline.Feed(arrays, 6, transforms=transforms) as feed:
        assert list(feed.element_spec) == ["all", "c"]
        for batch in feed:
            rows = batch["c"]
            assert (batch["all"] == np.column_stack([a[rows, 2], a[rows, 0], b[rows]])).all()


def test_a_function_may_change_what_it_gets_and_exchange_it(arrays):
    def exchange(batch, context):
        batch["label"] += 1
        image = batch["image"]
        return {"first": image[:, ::-1], "second": image[:, :1, 0], "label": batch["label"], "again": batch["label"]}

    stored = arrays["image"].read(0, ROWS)
    with feedline.Feed(arrays, 20, shuffle="none", transforms=[exchange]) as feed:
        for step, batch in enumerate(feed):
            rows = np.arange(20 * step, 20 * step + 20)
            assert (batch["first"] == stored[rows, ::-1]).all()
            assert (batch["second"][:, 0] == stored[rows, 0, 0]).all()
            assert (batch["label"] == rows % 10 + 1).all()
            assert (batch["again"] == rows % 10 + 1).all()


def test_arrays_that_change_places_are_not_mixed(save):
    arrays = feedline.open_arrays({"a": save("a", np.arange(50)), "b": save("b", -np.arange(50))})
    with feedline.Feed(
        arrays, 10, shuffle="none", transforms=[lambda batch, _: {"a": batch["b"], "b": batch["a"]}]
    ) as feed:
        for batch in feed:
            assert (batch["a"] == -batch["b"]).all()
            assert (batch["b"] >= 0).all()


def test_what_a_function_keeps_stays_as_it_was(arrays):
    kept = []

    def keep(batch, context):
        kept.append((context.rows.copy(), batch["image"]))
        return batch

    stored = arrays["image"].read(0, ROWS)
    with feedline.Feed(arrays, 20, seed=5, transforms=[keep], threads=2) as feed:
        for _ in range(3):
            for batch in feed:
                del batch
    assert len(kept) > 30
    assert all((images == stored[rows]).all() for rows, images in kept)


def test_a_function_is_told_where_its_batch_is(arrays):
    told = []

    def listen(batch, context):
        told.append((context.epoch, context.step, context.seed, context.is_training, len(context.rows)))
        return batch

    with feedline.Feed(arrays, 50, seed=9, transforms=[listen], epochs=2, threads=1, is_training=False) as feed:
        for _ in range(2):
            for batch in feed:
                del batch
    assert told == [(0, 0, 9, False, 2), *((epoch, step, 9, False, 50) for epoch in (0, 1) for step in range(4))]


def late(change):
    """Return a function that does as it should until step 2."""

    def transform(batch, context):
        return change(batch) if context.step >= 2 else batch

    return transform


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda batch: None, "returned NoneType: return a dict of arrays, by name"),
        (lambda batch: {}, "returned dict: return a dict of arrays, by name"),
        (lambda batch: {**batch, "label": batch["label"][:5]}, "returned 5 rows of 'label' for 20: return as many"),
        (
            lambda batch: {**batch, "label": batch["label"].astype(float)},
            "returned 'label' as float64, rows of shape [], and as uint16, rows of shape [] before: return the same",
        ),
        (
            lambda batch: {**batch, "image": batch["image"][:, :2]},
            "returned 'image' as uint8, rows of shape [2, 7], and as uint8, rows of shape [6, 7] before",
        ),
        (lambda batch: {"image": batch["image"]}, "returned image, and image, label, name before: name the same"),
        (lambda batch: {**batch, "label": np.ma.masked_array(batch["label"])}, "returned no array of numbers"),
        (lambda batch: {**batch, "label": np.zeros((20, 0))}, "returned rows of no values for 'label'"),
        (lambda batch: sys.exit(0), "raised SystemExit(0): return a batch, or raise an error"),
        (lambda batch: next(iter(())), "raised StopIteration(): return a batch, or raise an error"),
        (lambda batch: {**batch, "label": 3}, "returned no array of numbers, texts or dates for 'label'"),
        (lambda batch: {**batch, "label": [object()] * 20}, "returned no array of numbers, texts or dates for 'label'"),
    ],
)
def test_what_a_function_may_not_return_names_step_and_rows(arrays, change, why):
    with feedline.Feed(arrays, 20, shuffle="none", transforms=[late(change)], prefetch=1, threads=1) as feed:
        with pytest.raises(UserFunctionError, match=re.escape(why)) as caught:
            list(feed)
        assert ":late.<locals>.transform r" in str(caught.value)
        assert "(epoch 0, step 2, rows 40, 41, 42, 43, 44, 45, 46, 47, …)" in str(caught.value)


def test_what_a_function_raises_is_raised_with_a_note(arrays):
    def fail(batch):
        raise KeyError("weight")

    with feedline.Feed(arrays, 20, shuffle="none", transforms=[late(fail)], threads=1) as feed:
        with pytest.raises(KeyError, match="weight") as caught:
            list(feed)
        (note,) = caught.value.__notes__
        assert note.endswith("(epoch 0, step 2, rows 40, 41, 42, 43, 44, 45, 46, 47, …)")
        assert [frame.name for frame in caught.traceback][-1] == "fail"


def test_it_is_tried_at_once(arrays):
    def fail(batch, context):
        raise KeyError("weight")

    with pytest.raises(KeyError, match="weight") as caught:
        feedline.Feed(arrays, 20, transforms=[fail])
    assert "(epoch 0, step 0, rows 0, 1)" in caught.value.__notes__[0]
    for transforms in ((each for each in CHAIN), CHAIN[0], crop, None):
        with pytest.raises(UsageError, match="transforms: must be a list of them"):
            feedline.Feed(arrays, 20, transforms=transforms)
    with pytest.raises(UsageError, match="transforms: 3 is none, and no function"):
        feedline.Feed(arrays, 20, transforms=[3])
    with pytest.raises(UsageError, match="scale of row: there is no such array here, only image, label, name"):
        feedline.Feed(arrays, 20, transforms=[feedline.Scale("row", 2)])


def test_a_row_that_a_declared_transform_does_not_take_is_named(arrays):
    feed = feedline.Feed(arrays, 20, shuffle="none", transforms=[feedline.OneHot("label", 9)])
    with feed, pytest.raises(DataError, match="oneHot of label: 9 in row 9 is none of 9 classes"):
        list(feed)


def test_numbers_of_another_byte_order_become_this_machines(arrays):
    def turned(batch, context):
        return {"row": context.rows.astype(">i4")}

    with feedline.Feed(arrays, 20, shuffle="none", transforms=[turned]) as feed:
        first = next(iter(feed))["row"]
    assert first.dtype.isnative
    assert first.tolist() == list(range(20))


def test_batches_come_as_soon_as_their_function_is_done(arrays):
    """Of small batches a slot holds many, and what a function takes of each adds up."""
    called = []

    def count(batch, context):
        called.append(context.step)
        if context.step == 5:
            raise KeyError("weight")
        return batch

    with feedline.Feed(arrays, 2, shuffle="none", transforms=[count], threads=1, prefetch=2) as feed:
        batches = iter(feed)
        taken = [next(batches)]
        time.sleep(0.2)
        # Those that wait, one in the thread's hands, and the first, which was tried.
        assert len(called) <= 7
        with pytest.raises(KeyError):
            taken.extend(batches)
        assert len(taken) == 5
        assert feed.state()["step"] == 5


def test_a_column_of_a_wide_row_takes_little_memory(save):
    wide = feedline.open_arrays({"x": save("x", np.zeros((64, 1 << 18), np.float32))})
    with feedline.Feed(wide, 8, threads=2) as feed:
        stored = feed.require_room()
    with feedline.Feed(wide, 8, threads=2, transforms=[feedline.Select("x", [3])]) as feed:
        assert feed.require_room() < stored
        assert all(batch["x"].shape == (8, 1) for batch in feed)


def test_their_time_is_part_of_the_feeds(arrays):
    def busy(batch, context):
        sum(range(20_000))
        return batch

    with feedline.Feed(arrays, 20, transforms=[*CHAIN, busy]) as feed:
        list(feed)
        stats = feed.stats()
    assert 0 < stats.functions.seconds < stats.transform_seconds < stats.gather_busy_seconds
    assert 0 < stats.functions.cpu < 1.01 * stats.functions.seconds  # two clocks, of which one is adjusted
    assert stats.bytes == 200 * sum(spec.row_bytes for spec in feed.element_spec.values())


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "numpy"])
def test_a_function_gets_arrays_in_the_order_of_the_files(arrays, monkeypatch, is_native):
    """It may go by their order, whoever has made them."""
    if not is_native:
        monkeypatch.setattr("feedline.transforms.scaling.conversion", lambda *_: None)
    seen = []

    def look(batch, context):
        seen.append(list(batch))
        return batch

    with feedline.Feed(arrays, 20, transforms=[feedline.Scale("image", 2.0), look]) as feed:
        next(iter(feed))
    assert set(map(tuple, seen)) == {("image", "label", "name")}
    assert len(seen) > 1


DECLARED = (feedline.Scale("image", 1 / 255, -0.5), feedline.Cast("label", "int64"))


@pytest.mark.parametrize(
    ("transforms", "converted"),
    [(DECLARED, 2), ((*DECLARED, crop), 1), ((crop, *DECLARED), 0)],
    ids=["alone", "before", "after"],
)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_compiled_code_and_numpy_convert_alike(arrays, monkeypatch, transforms, converted, batch_size):
    def batches():
        with feedline.Feed(arrays, batch_size, seed=5, last_batch="keep", transforms=transforms) as feed:
            return [{name: array.tobytes() for name, array in batch.items()} for batch in feed]

    seen = batches()
    asked = []
    monkeypatch.setattr("feedline.transforms.scaling.conversion", lambda *dtypes: asked.append(dtypes))
    assert batches() == seen
    assert len(asked) == converted


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        (
            (feedline.Scale("image", 1 / 255), feedline.Scale("image", 2.0)),
            lambda stored: stored * np.float32(1 / 255) * np.float32(2),
        ),
        (
            (feedline.Scale("image", 1 / 255), feedline.Select("image", [0, 2])),
            lambda stored: (stored * np.float32(1 / 255))[..., [0, 2]],
        ),
        ((feedline.Scale("image", 1 / 3e40),), lambda stored: (stored * (1 / 3e40)).astype(np.float32)),
        ((feedline.Cast("image", "float16"),), lambda stored: stored.astype(np.float16)),
    ],
    ids=["twice", "selected", "float64", "float16"],
)
def test_what_compiled_code_does_not_do_alone_is_left_to_numpy(arrays, transforms, expected):
    stored = arrays["image"].read(0, ROWS)
    with feedline.Feed(arrays, 20, shuffle="none", last_batch="keep", transforms=transforms) as feed:
        seen = np.concatenate([batch["image"].copy() for batch in feed])
    assert (seen == expected(stored)).all()
