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
        self._filled = asyncio.get_event_loop().time()

    async def take(self) -> None:
        """Take a token, and wait for it where there is none. Who comes first is served first."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._tokens + (now - self._filled) * self._rate, self._burst) - 1
        self._filled = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
