"""Downloads, from a real web server on loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from vitlet.data.fetch import FetchLimits, display_url, fetch
from vitlet.data.read import read_image
from vitlet.errors import InvalidValue, UnreadableImage

LIMITS = FetchLimits(max_bytes=200_000, max_seconds=20, max_redirects=3)
SHORT = FetchLimits(max_seconds=0.6)


def test_an_image_is_loaded(server: str) -> None:
    assert read_image(fetch(f"{server}/image", LIMITS), "it").size == (24, 16)


def test_redirects_are_followed_to_their_limit(server: str) -> None:
    assert fetch(f"{server}/hops/3", LIMITS) == fetch(f"{server}/image", LIMITS)
    with pytest.raises(UnreadableImage, match="/hops/4: was redirected more than 3 times"):
        fetch(f"{server}/hops/4", LIMITS)


def test_the_size_limit_counts_every_byte(server: str) -> None:
    assert len(fetch(f"{server}/bytes/200000", LIMITS)) == 200_000
    with pytest.raises(UnreadableImage, match="/bytes/200001: is larger than 200000 bytes, the most that are loaded"):
        fetch(f"{server}/bytes/200001", LIMITS)
    with pytest.raises(UnreadableImage, match="/endless: is larger than 200000 bytes"):
        fetch(f"{server}/endless", LIMITS)
    with pytest.raises(UnreadableImage, match="/zipped/9000000: is larger than 200000 bytes"):
        fetch(f"{server}/zipped/9000000", LIMITS)


@pytest.mark.parametrize("path", ["drip", "dripping_header"])
def test_the_time_limit_holds_although_something_always_arrives(server: str, path: str) -> None:
    start = time.monotonic()
    with pytest.raises(UnreadableImage, match=f"/{path}: was not loaded within 0.6 s"):
        fetch(f"{server}/{path}", SHORT)
    assert time.monotonic() - start < 10


def test_a_server_that_accepts_and_stays_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/cat.jpg"
        with pytest.raises(UnreadableImage, match=r"/cat\.jpg: was not loaded within 0.6 s"):
            fetch(url, SHORT)


def test_what_the_server_says_is_passed_on(server: str) -> None:
    with pytest.raises(UnreadableImage, match="/absent: the server answered 404 Not Found"):
        fetch(f"{server}/absent", LIMITS)


def test_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(UnreadableImage, match=f"http://127.0.0.1:{port}/a.png: cannot connect: "):
        fetch(f"http://127.0.0.1:{port}/a.png", LIMITS)


def test_an_unknown_host(server: str) -> None:
    with pytest.raises(UnreadableImage, match=r"http://no-such-host\.invalid/a\.png: cannot connect: "):
        fetch("http://no-such-host.invalid/a.png", LIMITS)


def test_a_connection_that_breaks_off(server: str) -> None:
    with pytest.raises(UnreadableImage, match="/short: cannot be loaded: "):
        fetch(f"{server}/short", LIMITS)


def test_a_redirect_never_leads_to_a_file(server: str) -> None:
    with pytest.raises(UnreadableImage, match="/to_file: is, or leads to, no http or https address"):
        fetch(f"{server}/to_file", LIMITS)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:99999/a", "http://\0/", "http://a b/"])
def test_addresses_that_are_none(url: str, server: str) -> None:
    with pytest.raises(UnreadableImage, match=r"cannot (connect|be loaded)|no http or https address"):
        fetch(url, SHORT)


def test_a_page_is_no_image(server: str) -> None:
    with pytest.raises(UnreadableImage, match="it: is no image of a known kind"):
        read_image(fetch(f"{server}/page", LIMITS), "it")


def test_it_says_who_asks(server: str) -> None:
    assert fetch(f"{server}/asked", LIMITS) == b"vitlet"


def test_it_works_inside_a_running_event_loop(server: str) -> None:
    async def notebook_cell() -> bytes:
        return fetch(f"{server}/image", LIMITS)

    assert asyncio.run(notebook_cell()).startswith(b"\x89PNG")


def test_passwords_are_not_shown(server: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        fetch(server.replace("http://", "http://user:secret@") + "/absent", LIMITS)
    assert "secret" not in str(caught.value)
    assert display_url("http://u:p@h/a?b=c#d") == "http://h/a?b=c#d"
    assert "secret" not in display_url("http://user:secret@[broken/")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_bytes": 0}, "max_bytes is 0; it must be 1 or more"),
        ({"max_seconds": 0}, "max_seconds is 0; it must be 0.001 or more"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
        ({"max_redirects": -1}, "max_redirects is -1; it must be 0 or more"),
    ],
)
def test_limits_are_checked(limit: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        FetchLimits(**limit)
