"""Download one image over http or https, with limits that hold for the whole of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from vitlet.errors import InvalidValue, UnreadableImage

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class FetchLimits:
    """The most that one download may take: ``max_bytes`` (after decompression), ``max_seconds`` from
    the first connection to the last byte, and ``max_redirects``.
    """

    max_bytes: int = 50_000_000
    max_seconds: float = 30.0
    max_redirects: int = 5

    def __post_init__(self) -> None:
        for name, value, least in (
            ("max_bytes", self.max_bytes, 1),
            ("max_seconds", self.max_seconds, 0.001),
            ("max_redirects", self.max_redirects, 0),
        ):
            if not value >= least:
                raise InvalidValue(f"FetchLimits.{name} is {value}; it must be {least} or more")


def is_url(text: str) -> bool:
    """Whether it begins like an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def display_url(url: str) -> str:
    """The address without a user name and password, to be shown and stored."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("@")[-1]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def fetch(url: str, limits: FetchLimits) -> bytes:
    """The bytes at ``url``. Proxies are taken from the environment, as curl does.

    Raises:
        UnreadableImage: no such host, refused, not found, too slow, too big, too many redirects or
            a redirect to something else than http(s); says which.
    """
    return _in_thread(lambda: _download(url, limits))


async def _download(url: str, limits: FetchLimits) -> bytes:
    import httpx

    name = display_url(url)
    content = bytearray()
    try:
        # One clock for all of it: httpx's own time-outs start anew with each packet.
        async with (
            asyncio.timeout(limits.max_seconds),
            httpx.AsyncClient(
                follow_redirects=True,
                max_redirects=limits.max_redirects,
                timeout=limits.max_seconds,
                headers={"User-Agent": "vitlet", "Accept": "image/*, */*;q=0.1"},
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.is_error:
                raise UnreadableImage(
                    f"{name}: the server answered {response.status_code} {response.reason_phrase}".rstrip()
                )
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > limits.max_bytes:
                    raise UnreadableImage(f"{name}: is larger than {limits.max_bytes} bytes, the most that are loaded")
    except (TimeoutError, httpx.TimeoutException) as error:
        raise UnreadableImage(f"{name}: was not loaded within {limits.max_seconds:g} s") from error
    except httpx.TooManyRedirects as error:
        raise UnreadableImage(f"{name}: was redirected more than {limits.max_redirects} times") from error
    except httpx.UnsupportedProtocol as error:
        raise UnreadableImage(f"{name}: is, or leads to, no http or https address") from error
    except httpx.ConnectError as error:
        raise UnreadableImage(f"{name}: cannot connect: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise UnreadableImage(f"{name}: cannot be loaded: {error or type(error).__name__}") from error
    return bytes(content)


def _in_thread(start: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run a coroutine in a thread of its own: the caller's may run an event loop (a notebook does),
    and Ctrl-C need not wait for a slow server, because the thread is a daemon.
    """
    future: Future[_Result] = Future()

    def work() -> None:
        try:
            future.set_result(asyncio.run(start()))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="vitlet-fetch", daemon=True).start()
    return future.result()
