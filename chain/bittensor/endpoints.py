"""Which endpoint is next. Pure.

Rules:
1. The order is the operator's: the first one that is not resting is taken.
2. An endpoint that failed rests, twice as long after every failure in a row, at most
   `longest_pause_s`. Once its rest is over it may be tried again, so the first one comes back.
3. An address may carry a password or an access key. Messages and metrics show it without. An
   address that no websocket can be opened to is refused here, because the library that would
   refuse it repeats it whole.
4. What is remembered of an endpoint is one record; there are as many as were configured.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from chain.errors import ChainErrorCode

MOST_ENDPOINTS = 16
_SCHEMES = ("ws", "wss")


def shown(url: str) -> str:
    """Return an address for people: scheme, host and port, without user, path and query."""
    parts = urlsplit(url)
    # After a password with an unescaped hash sign the host is in the fragment.
    address = parts.fragment if "@" in parts.fragment else parts.netloc
    host = address.rpartition("@")[2].partition("/")[0].partition("?")[0]
    return f"{parts.scheme}://{host}" if host else repr(url)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an endpoint was last left, and how often in a row."""

    times: int
    not_before: float
    code: ChainErrorCode
    reason: str


class Endpoints:
    """The configured endpoints and how they fared. Times in seconds of one monotonic clock."""

    def __init__(
        self, urls: Sequence[str], *, first_pause_s: float = 1.0, longest_pause_s: float = 60.0
    ) -> None:
        """Raise `ValueError` for no, too many, repeated or malformed addresses."""
        if not 1 <= len(urls) <= MOST_ENDPOINTS or len(set(urls)) != len(urls):
            raise ValueError(
                f"{len(urls)} chain endpoints, {len(set(urls))} of them different: want 1 to "
                f"{MOST_ENDPOINTS}, each once"
            )
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in _SCHEMES or not parts.hostname:
                raise ValueError(f"chain endpoint {shown(url)}: want ws://HOST:PORT or wss://HOST")
            if "#" in url or (parts.username is not None and parts.password is None):
                raise ValueError(
                    f"chain endpoint {shown(url)}: it has a # or a user without a password; want "
                    "an access key in the path or the query, or USER:PASSWORD@HOST"
                )
        self.urls = tuple(urls)
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._failures: dict[str, Failure] = {}

    def choose(self, now: float, tried: Collection[str] = ()) -> str | None:
        """Return the endpoint to connect to, None while all of them rest.

        Those in `tried` are left out: a rest may be shorter than a vain attempt to connect, and
        the first endpoints must not keep the last ones from their turn.
        """
        free = (url for url in self.urls if url not in tried and not self._rests(url, now))
        return next(free, None)

    def better_than(self, url: str, now: float) -> str | None:
        """Return an endpoint that stands before `url` and does not rest (any more), or None."""
        before = self.urls[: self.urls.index(url)]
        return next((one for one in before if not self._rests(one, now)), None)

    def failed(self, url: str, now: float, code: ChainErrorCode, reason: str) -> None:
        """Let `url` rest."""
        before = self._failures.get(url)
        times = 1 if before is None else before.times + 1
        # The exponent is bounded, so that a year of failures does not overflow the float.
        pause = min(self._longest_pause_s, self._first_pause_s * 2.0 ** min(times - 1, 32))
        self._failures[url] = Failure(times, now + pause, code, reason)

    def worked(self, url: str) -> None:
        """Forget the failures of `url`: it has shown a new block."""
        self._failures.pop(url, None)

    def wait_s(self, now: float) -> float:
        """Return after how many seconds an endpoint may be tried; 0 if one may be now."""
        if self.choose(now) is not None:
            return 0.0
        return max(0.0, min(one.not_before for one in self._failures.values()) - now)

    def common_code(self) -> ChainErrorCode | None:
        """Return the code that all endpoints failed with, None if they did not or differ."""
        codes = {one.code for one in self._failures.values()}
        everywhere = len(self._failures) == len(self.urls)
        return codes.pop() if everywhere and len(codes) == 1 else None

    def describe(self) -> str:
        """Return the failures for people, in the configured order."""
        told = [
            f"{shown(url)}: {self._failures[url].reason}"
            for url in self.urls
            if url in self._failures
        ]
        return "; ".join(told) or "no endpoint has failed yet"

    def _rests(self, url: str, now: float) -> bool:
        failure = self._failures.get(url)
        return failure is not None and now < failure.not_before
