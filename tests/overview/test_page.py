"""The page of many trainings: it stands alone, shows all of them, and escapes what users named."""

import json
import math
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedline.overview import Entry, Overview, importance, page

MEGABYTES = 1_000_000


def many(count, seed=3):
    """Return an overview of trainings whose learning rate decides."""
    chance = random.Random(seed)
    entries = []
    for number in range(count):
        parameters = {
            "learningRate": 10 ** chance.uniform(-4, -0.5),
            "batch": chance.choice([16, 32, 64]),
            "optimizer": chance.choice(["sgd", "adamw"]),
        }
        top = 0.97 - abs(math.log10(parameters["learningRate"]) + 2) * 0.12
        curve = [(1500 * epoch, top * (1 - math.exp(-epoch / 6))) for epoch in range(1, 65)]
        state = "Pruned" if chance.random() < 0.3 else "Complete"
        entries.append(Entry(f"digits-{number}", state, parameters, curve[-1][1], curve, 31_000, 120, "Disk", "why"))
    entries.sort(key=lambda entry: (entry.state != "Complete", -entry.value))
    return Overview("digits", "val_accuracy", True, entries, frozenset({"learningRate"}))


def test_five_hundred_trainings_fit_a_small_page_that_shows_each():
    text = page(many(500))
    assert len(text.encode()) < 2 * MEGABYTES
    rows = re.findall(r'<tr data-row="(\d+)"><td>(digits-\d+)</td>', text)
    assert sorted(int(number) for number, _ in rows) == list(range(500))
    assert len({name for _, name in rows}) == 500
    # A line in the curves, a line through the parameters.
    assert len(re.findall(r'<path class="line ', text)) == 1000


def test_it_loads_nothing_and_runs_its_own_script_alone():
    text = page(many(3))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert text.count("<script") == 1
    assert not re.search(r"(?:src|href)=|url\(|@import|https?:", text)


EVIL = """<img src=x onerror=alert(1)>"'&</script><script>alert(2)</script>"""


def test_what_users_named_is_text():
    entry = Entry(EVIL, "Complete", {EVIL: EVIL, "other": 1}, 0.5, [(1, 0.5)], None, 900, EVIL, EVIL)
    other = Entry("b", "Failed", {EVIL: "x", "other": 2}, 0.4, [(1, 0.4)])
    text = page(Overview(EVIL, EVIL, True, [entry, other]))
    assert "<img" not in text
    assert "alert(2)</script>" not in text
    assert text.count("<script") == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_trainings_have_a_page(count):
    assert f"{count} trainings" in page(many(count))


def test_runs_without_an_objective_are_compared_by_their_speed():
    entries = [Entry("a", "Complete", {"batch": 1}, samples_per_second=1200, wait_permille=640, cause="Disk")]
    text = page(Overview("runs", "", True, entries))
    assert "a waits most for data: 64 % of its time (Disk)" in text
    assert "1,200" in text
    assert "Curves" not in text


VALUES = st.one_of(st.floats(), st.sampled_from([0.0, -1e300, 1e300, 5e-324]))
PARAMETERS = st.one_of(st.floats(), st.integers(-9, 9), st.just(10**400), st.booleans(), st.text(max_size=5))


@given(
    entries=st.lists(
        st.builds(
            Entry,
            st.text(max_size=5),
            st.sampled_from(["Running", "Complete", "Pruned", "Failed"]),
            st.dictionaries(st.sampled_from(["a", "b"]), PARAMETERS),
            st.one_of(st.none(), VALUES),
            st.lists(st.tuples(st.integers(0, 10**9), VALUES), max_size=4),
        ),
        max_size=6,
    ),
    logarithmic=st.sets(st.sampled_from(["a", "b"])),
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_reported_the_page_is_drawn(entries, logarithmic):
    text = page(Overview("any", "loss", False, entries, frozenset(logarithmic)))
    drawn = " ".join(re.findall(r' (?:d|x|y|x1|x2|y1|y2)="([^"]*)"', text))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_the_parameter_that_decides_is_the_most_important():
    shares = importance(many(60))
    assert max(shares, key=shares.get) == "learningRate"
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(many(5)) == {}, "of few trainings it says nothing"


def test_what_is_trained_once_more_decides_nothing():
    overview = many(60)
    best = [replace(each, is_repeated=True) for each in overview.entries if each.state == "Complete"][:3]
    again = replace(overview, entries=[*overview.entries, *(each for each in best for _ in range(20))])
    assert importance(again) == importance(overview)


# Sorts by a column, points at a training, and tells what it saw.
LOOK = """
(() => {
  const names = () => [...document.querySelectorAll(".all tbody tr")].map((row) => row.children[0].textContent);
  const before = names();
  const buttons = document.querySelectorAll(".all button");
  buttons[3].click();
  const rates = [...document.querySelectorAll(".all tbody tr")].map((row) => Number(row.children[3].dataset.value));
  const line = document.querySelector("path.line.best");
  line.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  const lit = [...document.querySelectorAll("tr.lit")].map((row) => row.children[0].textContent);
  return JSON.stringify({ title: document.title, before, rates, lit, width: line.getBBox().width });
})()
"""


@pytest.mark.trainer
def test_a_browser_shows_it_from_a_file_and_asks_nobody(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(many(24)))
    seen = browser(file, LOOK)
    told = json.loads(seen.answer)
    assert told["title"] == "digits"
    assert len(told["before"]) == 24
    assert told["rates"] == sorted(told["rates"])
    assert told["lit"] == [told["before"][0]], "the best line lights the best row"
    assert told["width"] > 500
    assert seen.requests == [file.as_uri()]
    assert seen.complaints == []
