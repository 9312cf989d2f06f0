"""Asking trainers: what a stranger's server answers, against real servers, and when they are asked."""

import asyncio
import contextlib
import gzip
import itertools
import json
import types

import pytest
from aiohttp import web
from simulation.clock import now, simulate

from feedline_operator import progress
from feedline_operator.progress import Progress
from feedline_operator.store import Key

A, B = Key("team", "a"), Key("team", "b")
REPORT = json.dumps({"steps": 7})


@pytest.fixture
def loopback(monkeypatch):
    """Let the address of the tests' servers be one that is asked; it is refused otherwise, as it should be."""

    class Elsewhere:
        version = 4
        is_loopback = is_link_local = is_multicast = is_unspecified = False

        def __str__(self):
            return "127.0.0.1"

    monkeypatch.setattr(progress, "ipaddress", types.SimpleNamespace(ip_address=lambda _: Elsewhere()))


@pytest.fixture
def ask(loopback):
    """Return a function that asks a trainer with these answers by path, and returns what it said and what it got."""

    def ask(**answers):
        requests = []

        async def handle(request):
            requests.append((request.path, dict(request.headers)))
            return await answers[request.path.strip("/")](request)

        async def main():
            async with served(handle) as port:
                asker = Progress(30, lambda *_: None, port)
                try:
                    return await asker._ask("203.0.113.7")
                finally:
                    await asker.close()

        return asyncio.run(main()), requests

    return ask


@contextlib.asynccontextmanager
async def served(handle):
    """Serve HTTP on a free port of 127.0.0.1."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def says(body, status=200, **headers):
    async def answer(_):
        content = body.encode() if isinstance(body, str) else body
        return web.Response(body=content, status=status, headers=headers)

    return answer


def test_a_trainer_says_how_far_it_is(ask):
    report, ((path, headers),) = ask(feed=says(REPORT))
    assert report == {"steps": 7}
    assert path == "/feed"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization"} & set(headers)


ANSWERS = {
    "not there yet": says("", 404),
    "broken": says(REPORT, 500),
    "no content": says("", 204),
    "a web page": says("<html>"),
    "a list": says("[1]"),
    "nothing": says(""),
    "bytes": says(b"\xff\x00\xfe"),
    "64 KiB of JSON": says(json.dumps({"steps": 7, "message": "x" * 2**16})),
    "compressed": says(gzip.compress(REPORT.encode()), **{"Content-Encoding": "gzip"}),
    "a bomb": says(gzip.compress(b" " * 2**24), **{"Content-Encoding": "gzip"}),
    "elsewhere": says(REPORT, 302, Location="/other"),
    "moved for good": says(REPORT, 308, Location="/other"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_is_no_answer_is_none(ask, answer):
    report, requests = ask(feed=answer, other=says(REPORT))
    assert report is None
    assert [path for path, _ in requests] == ["/feed"]


def test_an_answer_without_end_is_left(ask):
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 4096)

    assert ask(feed=answer)[0] is None


def test_who_does_not_answer_in_time_is_left(ask, monkeypatch):
    monkeypatch.setattr(progress, "TIMEOUT_SECONDS", 0.1)

    async def drip(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    with pytest.raises(TimeoutError):
        ask(feed=drip)


def test_proxies_and_cookies_of_the_environment_do_not_matter(loopback, monkeypatch):
    seen = []

    async def main():
        async def proxy(request):
            seen.append(request.path)
            return web.Response(text=REPORT)

        async def trainer(request):
            assert "Cookie" not in request.headers
            response = web.Response(text=REPORT)
            response.set_cookie("a", "b")
            return response

        async with served(proxy) as proxy_port, served(trainer) as port:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy_port}")
            asker = Progress(30, lambda *_: None, port)
            answers = [await asker._ask("203.0.113.7") for _ in range(2)]
            await asker.close()
            return answers

    assert asyncio.run(main()) == [{"steps": 7}] * 2
    assert seen == []


ADDRESSES = [
    *("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"),
    *("169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%lo"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_no_pod_has_are_not_asked(address):
    async def main():
        async def fail(_):
            raise AssertionError("asked")

        async with served(fail) as port:
            asker = Progress(30, lambda *_: None, port)
            try:
                return await asker._ask(address)
            finally:
                assert asker._session is None, "a connection was opened"

    assert asyncio.run(main()) is None


@pytest.mark.parametrize("address", ["", "trainer.example", "203.0.113.7/../", "203.0.113.7:80", "1.2.3"])
def test_what_is_no_address_is_not_asked(address):
    async def main():
        asker = Progress(30, lambda *_: None, 80)
        with pytest.raises(ValueError, match="does not appear to be"):
            await asker._ask(address)
        assert asker._session is None

    asyncio.run(main())


def test_whatever_a_trainer_answered_it_is_asked_again(loopback):
    async def main():
        async def hang_up(request):
            request.transport.abort()

        async def lie(request):
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"{")
            request.transport.close()

        answers = [hang_up, lie, says("{", 200), says("", 500), says("{}"), says(REPORT)]
        left, told = list(answers), asyncio.get_running_loop().create_future()

        async def handle(request):
            return await (left.pop(0) if len(left) > 1 else left[0])(request)

        async with served(handle) as port:
            asker = Progress(0.01, lambda *sample: told.done() or told.set_result(sample), port)
            asker.follow(A, ("pod-a", "203.0.113.7"))
            try:
                return await asyncio.wait_for(told, 30)
            finally:
                await asker.close()

    key, sample = asyncio.run(main())
    assert key == A
    assert (sample.pod_uid, sample.report) == ("pod-a", {"steps": 7})
    assert sample.time.tzinfo is not None


class Asked(Progress):
    """Whom it asks, and when, without a network."""

    def __init__(self, told, seconds=0.0):
        super().__init__(30, told)
        self.times = []
        self.at_once = self.most_at_once = 0
        self._seconds = seconds

    async def _ask(self, address):
        self.times.append((now(), address))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._seconds)
        self.at_once -= 1
        return {"steps": len(self.times)}


def test_a_trainer_is_asked_soon_and_then_every_interval():
    async def main():
        told = []
        asker, began = Asked(lambda key, sample: told.append(sample)), now()
        asker.follow(A, ("pod-a", "a"))
        await asyncio.sleep(200)
        times = [time - began for time, _ in asker.times]
        assert 6 <= times[0] <= 12
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps
        assert all(30 <= gap <= 36 for gap in gaps)
        assert len(set(gaps)) > 1, "everybody at the same moment"
        assert [sample.report["steps"] for sample in told] == list(range(1, len(times) + 1))
        await asker.close()

    simulate(main())


def test_it_follows_the_newest_pod_of_a_pipeline_and_stops_when_told():
    async def main():
        asker = Asked(lambda *_: None)
        asker.follow(A, None)
        asker.follow(A, ("pod-a", "a"))
        await asyncio.sleep(20)
        for _ in range(10):
            asker.follow(A, ("pod-a", "a"))
            await asyncio.sleep(5)
        assert 2 <= len(asker.times) <= 3, "it begins anew each time"
        asker.follow(A, ("pod-b", "b"))
        asker.times.clear()
        await asyncio.sleep(100)
        assert {address for _, address in asker.times} == {"b"}
        asker.follow(A, None)
        asker.times.clear()
        await asyncio.sleep(100)
        assert asker.times == []
        asker.follow(B, ("pod-c", "c"))
        await asker.close()
        await asyncio.sleep(100)
        assert asker.times == []

    simulate(main())


def test_few_are_asked_at_once():
    async def main():
        asker = Asked(lambda *_: None, seconds=25.0)
        for number in range(100):
            asker.follow(Key("team", str(number)), (str(number), "a"))
        await asyncio.sleep(300)
        assert asker.most_at_once == 16
        await asker.close()

    simulate(main())
