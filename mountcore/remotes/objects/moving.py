"""Renaming what lies below a key: all of it is copied, then the originals are deleted. Used by `remote`."""

from __future__ import annotations

import trio

from .shown import each
from .store import Found, Key, Store

_UNDO_WITHIN = 60.0


async def move_all(store: Store, old: Key, new: Key) -> bool:
    """Whether there was anything. If a copy fails, the copies are deleted and the originals are untouched."""
    found: list[Found] = []
    more = ""
    while True:
        page = await store.page(old, delimited=False, more=more)
        found += page.objects
        if not (more := page.more):
            break
    copied: list[Key] = []

    async def copy(one: Found) -> None:
        at = Key(new.bucket, new.key + one.key[len(old.key) :])
        await store.copy(Key(old.bucket, one.key), at, one, None)
        copied.append(at)

    try:
        await each(copy, found)
    except BaseException:
        with trio.move_on_after(_UNDO_WITHIN, shield=True):
            await each(store.delete, copied)
        raise
    await each(store.delete, [Key(old.bucket, one.key) for one in found])
    return bool(found)
