"""Random work on one file against a model in memory; the same seed does the same. In the manner of fsx.

    python tests/fuse/exerciser.py FILE [--seed N] [--operations N] [--size BYTES]

Reads, writes, appends, truncates, reads and writes through mappings, punches holes, copies ranges, syncs, drops the
kernel's pages and opens anew. The first byte that differs ends it with the last operations and the command that does
it again. It is a program of its own because touching a mapping holds the interpreter's lock.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import mmap
import os
import random
import sys
from collections import deque
from collections.abc import Callable

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
SHOWN = 20
"""Operations that are shown when something is wrong."""


class Mismatch(Exception):
    """The file is not what was written to it."""


class Exerciser:
    """A file, its model, and what was done to both."""

    def __init__(self, path: str, seed: int, largest: int) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._largest = largest
        self._model = bytearray()
        self.done: deque[str] = deque(maxlen=SHOWN)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._work: list[tuple[int, Callable[[], None]]] = [
            (30, self._read),
            (25, self._write),
            (8, self._append),
            (8, self._truncate),
            (12, self._read_mapped),
            (12, self._write_mapped),
            (4, self._punch),
            (4, self._zero),
            (5, self._copy),
            (3, self._reopen),
            (2, self._sync),
            (4, self._drop),
        ]

    def run(self, operations: int) -> None:
        """Raises Mismatch. The file is closed and compared whole at the end."""
        weights, work = zip(*self._work, strict=True)
        for _ in range(operations):
            self._random.choices(work, weights)[0]()
        self._reopen()
        self._compare("the end", 0, os.pread(self._file, self._largest + 1, 0), len(self._model))
        os.close(self._file)

    def _note(self, what: str, *numbers: int) -> str:
        line = f"{what} {' '.join(f'{number:#x}' for number in numbers)}"
        self.done.append(line)
        return line

    def _span(self, stop: int) -> tuple[int, int]:
        """An offset below ``stop`` and a length; often at the edges of pages."""
        offset = self._random.randrange(stop) if stop else 0
        if self._random.random() < 0.3:
            offset &= ~0xFFF
        return offset, self._random.choice((1, 100, 4096, 10_000, 131_072, self._random.randrange(1, 200_000)))

    def _bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def _compare(self, what: str, offset: int, found: bytes, length: int) -> None:
        expected = bytes(self._model[offset : offset + length])
        if found == expected:
            return
        for index, (a, b) in enumerate(zip(found, expected, strict=False)):
            if a != b:
                raise Mismatch(f"{what}: byte {offset + index:#x} is {a:#04x} instead of {b:#04x}")
        raise Mismatch(f"{what}: {len(found)} bytes at {offset:#x} instead of {len(expected)}")

    def _store(self, offset: int, data: bytes) -> None:
        if offset > len(self._model):
            self._model.extend(bytes(offset - len(self._model)))
        self._model[offset : offset + len(data)] = data

    def _check_size(self, what: str) -> None:
        size = os.fstat(self._file).st_size
        if size != len(self._model):
            raise Mismatch(f"{what}: the file has {size:#x} bytes instead of {len(self._model):#x}")

    def _read(self) -> None:
        offset, length = self._span(len(self._model) + 5000)
        what = self._note("read", offset, length)
        self._compare(what, offset, os.pread(self._file, length, offset), length)

    def _write(self) -> None:
        offset, length = self._span(self._largest)
        data = self._bytes(min(length, self._largest - offset))
        what = self._note("write", offset, len(data))
        os.pwrite(self._file, data, offset)
        self._store(offset, data)
        self._check_size(what)

    def _append(self) -> None:
        data = self._bytes(min(self._span(1)[1], self._largest - len(self._model)))
        what = self._note("append", len(self._model), len(data))
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(file, data)
        os.close(file)
        self._store(len(self._model), data)
        self._check_size(what)

    def _truncate(self) -> None:
        size = self._random.randrange(self._largest)
        by_path = self._random.random() < 0.5
        what = self._note("truncate by path" if by_path else "truncate", size)
        if by_path:
            os.truncate(self._path, size)
        else:
            os.ftruncate(self._file, size)
        if size < len(self._model):
            del self._model[size:]
        else:
            self._store(size, b"")
        self._check_size(what)

    def _read_mapped(self) -> None:
        if not self._model:
            return
        offset, length = self._span(len(self._model))
        what = self._note("mapped read", offset, length)
        with mmap.mmap(self._file, len(self._model), prot=mmap.PROT_READ) as mapped:
            self._compare(what, offset, mapped[offset : offset + length], length)

    def _write_mapped(self) -> None:
        if not self._model:
            return
        offset, length = self._span(len(self._model))
        data = self._bytes(min(length, len(self._model) - offset))
        flush = self._random.random() < 0.5
        self._note("mapped write and flush" if flush else "mapped write", offset, len(data))
        with mmap.mmap(self._file, len(self._model)) as mapped:
            mapped[offset : offset + len(data)] = data
            if flush:
                mapped.flush()
        self._store(offset, data)

    def _punch(self) -> None:
        """A hole, where the file system can."""
        offset, length = self._span(len(self._model) + 5000)
        what = self._note("punch", offset, length)
        if _fallocate(self._file, PUNCH_HOLE | KEEP_SIZE, offset, length):
            stop = min(offset + length, len(self._model))
            if offset < stop:
                self._model[offset:stop] = bytes(stop - offset)
        self._check_size(what)

    def _zero(self) -> None:
        """Zeros, perhaps past the end."""
        offset, length = self._span(self._largest)
        length = min(length, self._largest - offset)
        what = self._note("zero", offset, length)
        if length and _fallocate(self._file, ZERO_RANGE, offset, length):
            self._store(offset, bytes(length))
        self._check_size(what)

    def _copy(self) -> None:
        """A range to another place of the same file; the kernel wants them apart."""
        start, length = self._span(len(self._model))
        target = self._random.randrange(self._largest)
        length = min(length, len(self._model) - start, self._largest - target, abs(target - start))
        what = self._note("copy", start, target, length)
        done = 0
        while done < length:
            done += os.copy_file_range(self._file, self._file, length - done, start + done, target + done)
        if length > 0:
            self._store(target, bytes(self._model[start : start + length]))
        self._check_size(what)

    def _reopen(self) -> None:
        self._note("reopen")
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR)
        self._check_size("reopen")

    def _sync(self) -> None:
        self._note("sync")
        os.fsync(self._file)

    def _drop(self) -> None:
        self._note("drop pages")
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)


def _fallocate(file: int, mode: int, offset: int, length: int) -> bool:
    """Answers False where the file system has none."""
    if not LIBC.fallocate(file, mode, offset, length):
        return True
    if ctypes.get_errno() == errno.EOPNOTSUPP:
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> int:
    """Exit status 1 for a file that is not what was written to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1 << 20)
    args = parser.parse_args()
    exerciser = Exerciser(args.file, args.seed, args.size)
    try:
        exerciser.run(args.operations)
    except Mismatch as problem:
        print("\n".join(exerciser.done), file=sys.stderr)
        print(f"{problem}\nagain: {sys.argv[0]} {args.file} --seed {args.seed} --operations {args.operations}"
              f" --size {args.size}", file=sys.stderr)  # fmt: skip
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
