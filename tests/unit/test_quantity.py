"""Sizes and durations in rclone's grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountcore.errors import Refused
from mountcore.quantity import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512", 512 << 10), ("0", 0), ("64Ki", 64 << 10), ("64K", 64 << 10), ("64KiB", 64 << 10), ("128Mi", 128 << 20),
        ("1.5G", 3 << 29), (".5Mi", 1 << 19), ("100B", 100), ("100b", 100), ("2T", 2 << 40), ("1P", 1 << 50),
        (" 1 M ", 1 << 20), ("off", None), ("OFF", None),
    ],
)  # fmt: skip
def test_sizes(text: str, count: int | None) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "x", "-1", "1X", "1ii", "1Bi", "1i", "1 2", "1e3", "1.2.3", "K", "∞"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Refused, match="a size like"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10), ("0", 0), ("1.5", 1.5), ("90s", 90), ("1h30m", 5400), ("500ms", 0.5), ("1d", 86400), ("1w", 604800),
        ("1M", 2592000), ("1m", 60), ("1h1m1s1ms", 3661.001), ("off", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == pytest.approx(seconds) if seconds is not None else parse_duration(text) is None


@pytest.mark.parametrize("text", ["", "s", "-1s", "1x", "1h30", "10 s", "1h 30m", "1s2", "five"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Refused, match="a duration like"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["8E", "9" * 400, "9" * 5000 + "B"])
def test_a_size_that_no_disk_has_is_refused_in_a_short_line(text: str) -> None:
    with pytest.raises(Refused, match=r"^.{1,24} is more than 8 EiB; off means no limit$"):
        parse_size(text)


@pytest.mark.parametrize("text", ["293y", "9" * 400])
def test_so_is_a_duration_that_nobody_sees_the_end_of(text: str) -> None:
    with pytest.raises(Refused, match=r"^.{1,24} is longer than 292 years; off means for ever$"):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_a_duration_for_people_is_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 999))
def test_so_are_milliseconds(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 29, "1.5 GiB"), (1 << 60, "1024.0 PiB"), (None, "off")],
)
def test_sizes_for_people(count: int | None, text: str) -> None:
    assert format_size(count) == text


def test_off_for_people() -> None:
    assert format_duration(None) == "off"
    assert format_duration(0) == "0s"
