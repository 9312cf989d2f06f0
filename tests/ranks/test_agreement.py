"""The step at which ranks agree to do something, with torch's own store and threads that train at speeds of their own."""

import random
import threading
import time
from datetime import timedelta

import pytest

from feedline.ranks import Agreement, Asked, Board, Place

pytestmark = pytest.mark.trainer
STOP, SAVE = Asked("stop", 143), Asked("save", 0)


class Ranks:
    """Ranks that train in step, each in a thread, until all were asked to stop."""

    def __init__(self, world, seed, steps=10_000):
        torch = pytest.importorskip("torch")
        store = torch.distributed.HashStore()
        store.set_timeout(timedelta(seconds=60))
        self.world, self.steps, self.random = world, steps, random.Random(seed)
        self.agreements = [
            Agreement(Place(rank, world, rank, world), Board(store), Board(store), lambda _: None)
            for rank in range(world)
        ]
        self.done = [[] for _ in range(world)]
        self.errors = []
        self._all = threading.Barrier(world)

    def run(self, meanwhile):
        """Train, and do something meanwhile; return at which steps each rank did what it was asked for."""
        threads = [threading.Thread(target=self._train, args=(rank,)) for rank in range(self.world)]
        for agreement in self.agreements:
            agreement.start()
        for thread in threads:
            thread.start()
        meanwhile(self)
        for thread in threads:
            thread.join(60)
        for agreement in self.agreements:
            agreement.close()
        assert not self.errors
        assert not any(thread.is_alive() for thread in threads), "a rank waits for ever"
        return self.done

    def _train(self, rank):
        try:
            pace = random.Random(rank)
            for step in range(1, self.steps + 1):
                for ask in (self._between, self._begin):
                    if ask(rank, step):
                        return
                time.sleep(pace.random() * 0.004)
                self._all.wait(60)  # what a collective is to a step
        except BaseException as error:  # noqa: BLE001 - it is the test's
            self.errors.append(error)
            self._all.abort()

    def _between(self, rank, step):
        return self._did(rank, step - 1, self.agreements[rank].due(step - 1))

    def _begin(self, rank, step):
        while (asked := self.agreements[rank].begin(step)) is not None:
            if self._did(rank, step - 1, asked):
                return True
        return False

    def _did(self, rank, step, asked):
        if asked is not None:
            self.done[rank].append((step, asked))
        return asked == STOP


@pytest.mark.parametrize(("world", "seed"), [(2, 1), (3, 2), (4, 3), (8, 4)])
def test_all_do_the_same_at_the_same_step_whoever_asks(world, seed):
    def ask(ranks):
        for what in (SAVE, SAVE, STOP):
            time.sleep(ranks.random.random() * 0.3)
            ranks.agreements[ranks.random.randrange(world)].ask(what)

    done = Ranks(world, seed).run(ask)
    assert all(each == done[0] for each in done)
    # The same that is asked for twice at once is one.
    *before, last = [asked for _, asked in done[0]]
    assert last == STOP
    assert set(before) <= {SAVE}
    assert [step for step, _ in done[0]] == sorted(step for step, _ in done[0])


def test_all_may_ask_at_once_for_one_stop():
    def ask(ranks):
        time.sleep(0.1)
        for agreement in ranks.agreements:
            agreement.ask(STOP)

    done = Ranks(4, 5).run(ask)
    assert all(each == done[0] for each in done)
    assert [asked for _, asked in done[0]] == [STOP]


def test_a_stop_before_the_first_step_is_one():
    ranks = Ranks(2, 6)
    ranks.agreements[1].ask(STOP)
    time.sleep(0)
    done = ranks.run(lambda _: None)
    assert done[0] == done[1]
    assert done[0][-1][1] == STOP


def test_what_is_asked_for_at_the_very_end_keeps_nobody():
    def ask(ranks):
        time.sleep(0.05)
        ranks.agreements[0].ask(SAVE)

    done = Ranks(2, 7, steps=20).run(ask)
    assert all(len(each) <= 1 for each in done)
