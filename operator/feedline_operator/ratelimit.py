"""A token bucket: so many calls a second on average, so many at once."""

import asyncio


class TokenBucket:
    """Hands out `rate` tokens a second, and up to `burst` that nobody took.

    Parameters
    ----------
    rate
        Tokens a second.
    burst
        Most tokens kept for later.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled: float | None = None

    async def take(self) -> None:
        """Take a token, and wait for it where there is none. Who comes first is served first."""
        self._fill()
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)

    def take_now(self, count: int) -> bool:
        """Take so many tokens if they are there, and return whether they were."""
        self._fill()
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        passed = 0.0 if self._filled is None else now - self._filled
        self._tokens = min(self._tokens + passed * self._rate, self._burst)
        self._filled = now
