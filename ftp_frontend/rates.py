"""How fast clients may send and receive: for each transfer, and for all transfers of one user together.

Used by the data connections, each in its session's thread. Here "up" is to the server, as in ``--bwlimit UP:DOWN``.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import final

from mountcore.remotes.limits import Meter

Rate = tuple[int | None, int | None]
"""Bytes per second up and down; None is no limit."""
UNLIMITED: Rate = (None, None)
LEAST_PIECE = 1 << 10


@final
class _Shared:
    """The meters of one user."""

    def __init__(self, rate: Rate) -> None:
        self.up, self.down = Meter(rate[0]), Meter(rate[1])


@dataclass(frozen=True, slots=True)
class Throttle:
    """What one direction of one transfer has to keep to."""

    meters: tuple[Meter, ...] = ()
    piece: int = 1 << 62
    """Bytes to move at once, so that a slow transfer does not come in jumps."""

    def take(self, count: int) -> float:
        """Count bytes that were moved; answers the seconds to rest."""
        return max((meter.take(count) for meter in self.meters), default=0.0)


@final
class Rates:
    """The limits of one server. From any thread."""

    def __init__(self, transfer: Rate = UNLIMITED, user: Rate = UNLIMITED) -> None:
        self._transfer = transfer
        self._user = user
        self._lock = threading.Lock()
        self._shared: weakref.WeakValueDictionary[tuple[str, Rate], _Shared] = weakref.WeakValueDictionary()

    def of(self, user: str, own: Rate | None) -> _Shared | None:
        """The meters that all sessions of a user share; ``own`` replaces the limit of the server. To be kept."""
        rate = self._user if own is None else own
        if rate == UNLIMITED:
            return None
        with self._lock:
            found = self._shared.get((user, rate))
            if found is None:
                found = self._shared[user, rate] = _Shared(rate)
            return found

    def throttle(self, shared: _Shared | None, *, up: bool) -> Throttle:
        """For a transfer that begins."""
        which = 0 if up else 1
        meters = []
        limits = []
        if self._transfer[which] is not None:
            meters.append(Meter(self._transfer[which]))
            limits.append(self._transfer[which])
        if shared is not None:
            meter = shared.up if up else shared.down
            if meter.rate is not None:
                meters.append(meter)
                limits.append(int(meter.rate))
        if not meters:
            return Throttle()
        return Throttle(tuple(meters), max(LEAST_PIECE, min(rate for rate in limits if rate is not None) // 8))
