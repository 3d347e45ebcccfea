"""Writers: programs on the mount and FTP clients, each with files of its own and a ledger of what it was promised.

A writer works in a thread until it is told to stop, or until something answers with an error. The error leaves its
last operation open in the ledger; whether it was to be expected is for the scenario to say (`Writer.problem`).
"""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from .ground import Ground
from .ledger import Content, Ledger


@dataclass(frozen=True)
class Files:
    """What a writer has: names (of a letter each), the size (bytes) that small ones stay below, and that of the large
    one, which is edited in place while it is cached in part."""

    names: str
    largest: int
    large: int


MANY = Files("abcdef", 200_000, 3_000_000)
FEW = Files("abc", 6000, 30_000)
"""The same names again at once: what is under way for one is hit by the next change of it."""


class Writer:
    """One program. Subclasses say what it does."""

    def __init__(self, ground: Ground, folder: str, seed: int, files: Files = MANY) -> None:
        self.ground = ground
        self.folder = folder
        self.kind = files
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.problem: BaseException | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def seed_files(self) -> None:
        """Files that are in the storage before anything starts."""
        place = self.ground.storage.folder / self.folder
        place.mkdir(parents=True, exist_ok=True)
        for name in self.kind.names:
            content = self.chance.randbytes(self.chance.randrange(self.kind.largest))
            (place / name).write_bytes(content)
            self.ledger.files[f"{self.folder}/{name}"] = content
        content = self.chance.randbytes(self.kind.large)
        (place / "large").write_bytes(content)
        self.ledger.files[f"{self.folder}/large"] = content

    def start(self) -> None:
        self.problem = None
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self.folder, daemon=True)
        self._thread.start()

    def stop(self, patience: float) -> bool:
        """End after the operation under way; answers whether it did within ``patience`` seconds."""
        assert self._thread is not None
        self._stop.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.work(self._stop.is_set)
        except (OSError, ftplib.Error, EOFError) as problem:
            self.problem = problem

    def work(self, stopped: Callable[[], bool]) -> None:
        raise NotImplementedError

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def existing(self) -> str | None:
        """One of our small files that is there."""
        there = [name for name in self.kind.names if self.ledger.files.get(self.path(name)) is not None]
        return self.chance.choice(there) if there else None

    def content(self, path: str) -> bytes:
        found = self.ledger.files.get(path)
        assert found is not None
        return found

    def fresh(self) -> bytes:
        """New content of some length."""
        return self.chance.randbytes(self.chance.choice([0, 10, 5000, self.chance.randrange(self.kind.largest)]))

    @contextlib.contextmanager
    def change(self, after: dict[str, Content], mixed: tuple[bytes, bytes] | None = None):  # type: ignore[no-untyped-def]
        """The block does it."""
        self.ledger.begin(after, mixed=mixed)
        yield
        self.ledger.returned(after)


@final
class MountWriter(Writer):
    """Ordinary programs on the mount."""

    def work(self, stopped: Callable[[], bool]) -> None:
        acts = [self.save, self.save, self.append, self.edit, self.edit_large, self.truncate, self.rename, self.remove,
                self.save_atomically, self.sync]  # fmt: skip
        while not stopped():
            self.chance.choice(acts)()

    def real(self, path: str) -> Path:
        return self.ground.mountpoint / path

    def save(self) -> None:
        path, data = self.path(self.chance.choice(self.kind.names)), self.fresh()
        with self.change({path: data}, (b"", data)), self.real(path).open("wb", buffering=0) as file:
            write_all(file.fileno(), data, 0)

    def sync(self) -> None:
        """What fsync returned on is promised before close; what is written after it is not."""
        path, data = self.path(self.chance.choice(self.kind.names)), self.fresh()
        with contextlib.ExitStack() as opened:
            with self.change({path: data}, (b"", data)):
                file = opened.enter_context(self.real(path).open("wb", buffering=0))
                write_all(file.fileno(), data, 0)
                os.fsync(file.fileno())
            with self.change({path: data + data}, (data, data + data)):
                write_all(file.fileno(), data, len(data))
                file.close()

    def append(self) -> None:
        name = self.existing()
        if name is not None:
            path, data = self.path(name), self.fresh()
            old = self.content(path)
            with self.change({path: old + data}, (old, old + data)), self.real(path).open("ab", buffering=0) as file:
                write_all(file.fileno(), data, None)

    def edit(self) -> None:
        name = self.existing()
        if name is not None:
            self._edit(self.path(name), self.fresh(), self.chance.randrange(self.kind.largest))

    def edit_large(self) -> None:
        path = self.path("large")
        self._edit(path, self.chance.randbytes(5000), self.chance.randrange(len(self.content(path)) - 5000))

    def _edit(self, path: str, data: bytes, offset: int) -> None:
        old = self.content(path)
        new = old
        if data:
            new = old.ljust(offset, b"\0")
            new = new[:offset] + data + new[offset + len(data) :]
        with self.change({path: new}, (old, new)), self.real(path).open("r+b", buffering=0) as file:
            write_all(file.fileno(), data, offset)

    def truncate(self) -> None:
        name = self.existing()
        if name is not None:
            path, size = self.path(name), self.chance.randrange(self.kind.largest)
            with self.change({path: self.content(path)[:size].ljust(size, b"\0")}):
                os.truncate(self.real(path), size)

    def rename(self) -> None:
        name = self.existing()
        if name is not None:
            path, other = self.path(name), self.path(self.chance.choice([n for n in self.kind.names if n != name]))
            with self.change({path: None, other: self.content(path)}):
                os.rename(self.real(path), self.real(other))

    def remove(self) -> None:
        name = self.existing()
        if name is not None and self.chance.random() < 0.5:
            with self.change({self.path(name): None}):
                self.real(self.path(name)).unlink()

    def save_atomically(self) -> None:
        """As editors do: the old content or the new one, never a half."""
        path, data = self.path(self.chance.choice(self.kind.names)), self.fresh()
        temporary = self.path(".new")
        with self.change({temporary: data}, (b"", data)), self.real(temporary).open("wb", buffering=0) as file:
            write_all(file.fileno(), data, 0)
        with self.change({temporary: None, path: data}):
            os.rename(self.real(temporary), self.real(path))


@final
class FtpWriter(Writer):
    """An FTP client: what 226 or 250 was answered to is promised, and no upload is ever seen in part."""

    def work(self, stopped: Callable[[], bool]) -> None:
        acts = [self.store, self.store, self.append, self.restart, self.rename, self.remove]
        with self.ground.ftp(timeout=20) as self.session:
            while not stopped():
                self.chance.choice(acts)()

    def store(self) -> None:
        path, data = self.path(self.chance.choice(self.kind.names)), self.fresh()
        with self.change({path: data}):
            self.session.storbinary(f"STOR {path}", io.BytesIO(data))

    def append(self) -> None:
        name = self.existing()
        if name is not None:
            path, data = self.path(name), self.fresh()
            with self.change({path: self.content(path) + data}):
                self.session.storbinary(f"APPE {path}", io.BytesIO(data))

    def restart(self) -> None:
        name = self.existing()
        if name is not None and len(self.content(self.path(name))) > 1:
            path, data = self.path(name), self.fresh()
            old = self.content(path)
            at = self.chance.randrange(1, len(old))  # REST 0 means none: the file is replaced
            with self.change({path: old[:at] + data + old[at + len(data) :]}):
                self.session.storbinary(f"STOR {path}", io.BytesIO(data), rest=at)

    def rename(self) -> None:
        name = self.existing()
        if name is not None:
            path, other = self.path(name), self.path(self.chance.choice([n for n in self.kind.names if n != name]))
            with self.change({path: None, other: self.content(path)}):
                self.session.rename(path, other)

    def remove(self) -> None:
        name = self.existing()
        if name is not None and self.chance.random() < 0.5:
            with self.change({self.path(name): None}):
                self.session.delete(self.path(name))


def write_all(descriptor: int, data: bytes, offset: int | None) -> None:
    """Write in pieces, as programs do; ``offset`` None appends."""
    done = 0
    while done < len(data):
        piece = data[done : done + 65536]
        done += os.write(descriptor, piece) if offset is None else os.pwrite(descriptor, piece, offset + done)
