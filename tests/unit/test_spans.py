"""Sets of byte ranges, against a set of numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mountcore.spans import Span, SpanSet

TOP = 40
positions = st.integers(0, TOP)


class Against(RuleBasedStateMachine):
    """Every operation beside the same on a plain set."""

    def __init__(self) -> None:
        super().__init__()
        self.spans = SpanSet()
        self.bytes: set[int] = set()

    @rule(start=positions, stop=positions)
    def add(self, start: int, stop: int) -> None:
        new = set(range(start, stop)) - self.bytes
        assert self.spans.add(Span(start, stop)) == len(new)
        self.bytes |= new

    @rule(start=positions, stop=positions)
    def remove(self, start: int, stop: int) -> None:
        gone = set(range(start, stop)) & self.bytes
        assert self.spans.remove(Span(start, stop)) == len(gone)
        self.bytes -= gone

    @rule(size=positions)
    def clip(self, size: int) -> None:
        gone = {at for at in self.bytes if at >= size}
        assert self.spans.clip(size) == len(gone)
        self.bytes -= gone

    @rule(start=positions, stop=positions)
    def ask(self, start: int, stop: int) -> None:
        wanted = set(range(start, stop))
        assert self.spans.covers(start, stop) == (wanted <= self.bytes)
        gaps = self.spans.gaps(start, stop)
        assert [at for gap in gaps for at in range(*gap)] == sorted(wanted - self.bytes)
        assert all(a.stop < b.start for a, b in pairwise(gaps))
        end = start
        while end in self.bytes:
            end += 1
        assert self.spans.run_from(start) == end

    @rule()
    def copy_and_clear(self) -> None:
        twin = self.spans.copy()
        assert twin == self.spans
        assert twin.clear() == len(self.bytes)
        assert not twin

    @invariant()
    def same(self) -> None:
        assert [at for span in self.spans for at in range(*span)] == sorted(self.bytes)
        assert self.spans.total == len(self.bytes)
        spans = list(self.spans)
        assert self.spans.count() == len(spans)
        assert bool(self.spans) == bool(self.bytes)
        assert all(a.stop < b.start for a, b in pairwise(spans)), "adjacent spans must be one"
        assert SpanSet.decode(self.spans.encode()) == self.spans


TestAgainst = Against.TestCase


@pytest.mark.parametrize("text", ["5", "5-5", "9-5", "0-5,5-9", "0-5,3-9", "7-9,0-5", "a-b", "-1-5", "0-5,", ","])
def test_decode_refuses_what_encode_cannot_have_written(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        SpanSet.decode(text)


@given(st.lists(st.tuples(positions, positions)))
def test_made_from_spans_in_any_order(pairs: list[tuple[int, int]]) -> None:
    spans = [Span(*pair) for pair in pairs]
    assert SpanSet(spans) == SpanSet(reversed(spans))


def test_length_is_never_negative() -> None:
    assert Span(9, 5).length == 0
    assert Span(5, 9).length == 4


def test_repr_is_short() -> None:
    assert repr(SpanSet([Span(0, 4), Span(8, 9)])) == "SpanSet([0:4, 8:9])"
