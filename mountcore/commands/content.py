"""``portside cat``, ``rcat`` and ``hashsum`` (``md5sum``, ``sha1sum``): what is in files."""

from __future__ import annotations

import base64
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import trio

from ..errors import Refused, StorageError, Unsupported
from ..files.check import Finding
from ..files.content import IN_MEMORY, InMemory, onto_disk
from ..files.hashes import NAMES, algorithm_named, digest_of
from ..files.places import Place
from ..options import Option, boolean
from ..quantity import parse_size
from ..remotes.protocol import ANYTHING, Entry, Kind, Source, Span
from .failures import EXIT_FAILED, UsageError
from .file_options import CHANGE_OPTIONS
from .filing import Desk, make_parser, run

PIECE = 1 << 20


def _bytes(text: str) -> int:
    """A number of bytes, also negative: from the end."""
    try:
        return int(text)
    except ValueError:
        sign, word = (-1, text[1:]) if text.startswith("-") else (1, text)
        size = parse_size(word)
        return sign * (size or 0)


_CAT_OPTIONS = (
    Option("offset", "0", "Begin here; negative: so far before the end", _bytes, "N"),
    Option("count", "-1", "Only so many bytes", _bytes, "N"),
    Option("head", "0", "Only the first N bytes", _bytes, "N"),
    Option("tail", "0", "Only the last N bytes", _bytes, "N"),
    Option("discard", "false", "Read, and print nothing", boolean, flag=True),
    Option("separator", "", "Print this behind each file", str, "TEXT"),
)


def cat(argv: list[str]) -> int:
    """Print the content of files."""

    async def body(desk: Desk) -> None:
        place = await desk.place(desk.args.remote, prefer_file=True)
        if place.entry is None:
            desk.no_directory(desk.args.remote)
        separator = str(desk.values["separator"]).encode()
        sys.stdout.flush()
        async with desk.walker().walk(place) as directories:
            async for listed in directories:
                for path, entry in listed.items():
                    if entry.kind is Kind.DIRECTORY:
                        continue
                    try:
                        await _print(desk, place, path, entry)
                    except StorageError as problem:
                        desk.tally.failed(path, problem)
                    sys.stdout.buffer.write(separator)
        sys.stdout.buffer.flush()

    return run(make_parser("cat", "Print files.", remote="a file, or a directory whose files are all printed"),
               argv, body, _CAT_OPTIONS)  # fmt: skip


async def _print(desk: Desk, place: Place, path: str, entry: Entry) -> None:
    span = _span(desk, entry.size)
    if not span.length:
        return
    async with place.remote.read(place.path("" if place.is_file else path), span, None) as pieces:
        async for piece in pieces:
            if not desk.values["discard"]:
                await trio.to_thread.run_sync(sys.stdout.buffer.write, piece)


def _span(desk: Desk, size: int) -> Span:
    head, tail = desk.number("head"), desk.number("tail")
    offset, count = desk.number("offset"), desk.number("count")
    if ((head or tail) and (offset or count >= 0)) or (head and tail):
        raise Refused("give only one of --head, --tail, and --offset with --count")
    if head:
        offset, count = 0, head
    elif tail:
        offset, count = -tail, -1
    start = max(0, size + offset) if offset < 0 else min(offset, size)
    return Span(start, size if count < 0 else min(size, start + count))


def rcat(argv: list[str]) -> int:
    """Store standard input as a file."""

    async def body(desk: Desk) -> int | None:
        if sys.stdin.isatty():
            raise Refused("rcat stores what it reads from standard input, and that is a terminal")
        place = await desk.place(desk.args.file, prefer_file=True)
        if place.is_directory or str(desk.args.file).endswith(("/", ":")):
            raise Refused(f"{place.label}: is a directory; name the file")
        source = await _standard_input()
        if desk.dry_run:
            desk.tally.skipped(desk.args.file, "rcat", source.size)
            return None
        await place.beside().ensure("") if place.entry is None else None
        await place.remote.put(place.path(""), source, expect=ANYTHING, mtime_ns=time.time_ns())
        return None

    return run(make_parser("rcat", "Store standard input as a file. It is gathered here first, so that a part is "
                           "never stored.", file="the file"), argv, body, CHANGE_OPTIONS)  # fmt: skip


async def _standard_input() -> Source:
    """All of it: in memory if it is short, else in a file without a name."""
    start = await trio.to_thread.run_sync(_read_up_to, IN_MEMORY + 1)
    if len(start) <= IN_MEMORY:
        return InMemory(start)

    async def pieces() -> AsyncIterator[bytes]:
        yield start
        while piece := await trio.to_thread.run_sync(sys.stdin.buffer.read, PIECE, abandon_on_cancel=True):
            yield piece

    return await onto_disk(pieces())


def _read_up_to(length: int) -> bytes:
    return sys.stdin.buffer.read(length)


_HASH_OPTIONS = (
    Option("download", "false", "Compute it here where the storage does not tell it", boolean, flag=True),
    Option("base64", "false", "In base64", boolean, flag=True),
    Option("checkfile", "", "Compare with the hashes in this file instead of printing", str, "FILE", short="C"),
    Option("output-file", "", "Print into this file", str, "FILE"),
)


def hashsum(argv: list[str]) -> int:
    """Print hashes of files; without arguments, which hashes there are."""
    if not [word for word in argv if not word.startswith("-")] and "--help" not in argv and "-h" not in argv:
        print("Supported hashes are:")
        print("\n".join(f"- {name}" for name in NAMES))
        return 0
    parser = make_parser("hashsum", "Print hashes, as md5sum(1) does.", hash="which", remote="a directory or a file")
    return run(parser, argv, lambda desk: _sum(desk, desk.args.hash), _HASH_OPTIONS)


def md5sum(argv: list[str]) -> int:
    """Print MD5 hashes."""
    return _fixed("md5sum", "md5", argv)


def sha1sum(argv: list[str]) -> int:
    """Print SHA-1 hashes."""
    return _fixed("sha1sum", "sha1", argv)


def _fixed(name: str, algorithm: str, argv: list[str]) -> int:
    parser = make_parser(name, f"Print {algorithm} hashes.", remote="a directory or a file")
    return run(parser, argv, lambda desk: _sum(desk, algorithm), _HASH_OPTIONS)


async def _sum(desk: Desk, word: str) -> int | None:
    try:
        algorithm = algorithm_named(word)
    except Refused as problem:
        raise UsageError(str(problem)) from None
    place = await desk.directory(desk.args.remote)
    known = _read_sums(str(desk.values["checkfile"])) if desk.values["checkfile"] else None
    width = 0 if desk.values["base64"] else hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    wrong = 0
    lines: list[str] = []
    async with desk.walker().walk(place) as directories:
        async for listed in directories:
            for path, entry in listed.items():
                if entry.kind is Kind.DIRECTORY:
                    continue
                if known is not None:
                    finding = await _compared(desk, place, path, entry, algorithm, known.pop(path, None))
                    wrong += finding is not Finding.MATCH
                    print(f"{finding.value} {path}")
                    continue
                digest = await _one_sum(desk, place, path, entry, algorithm)
                if digest is None:
                    continue
                text = base64.urlsafe_b64encode(bytes.fromhex(digest)).decode() if desk.values["base64"] else digest
                line = f"{text:>{width}}  {path}"
                if desk.values["output-file"]:
                    lines.append(line)
                else:
                    print(line)
    for path in known or () if place.is_directory else ():
        if not desk.filter.takes_path(path):
            continue
        wrong += 1
        print(f"{Finding.NOT_IN_TARGET.value} {path}")
        desk.tally.say(f"{path}: file not found")
    if desk.values["output-file"]:
        text = "".join(f"{line}\n" for line in lines)
        Path(str(desk.values["output-file"])).write_text(text, errors="surrogateescape")  # noqa: ASYNC240
    if known is not None:
        desk.tally.say(f"{wrong} differences found")
    return EXIT_FAILED if wrong else None


async def _compared(desk: Desk, place: Place, path: str, entry: Entry, algorithm: str, wanted: str | None) -> Finding:
    """A file beside the file of sums, which is the source."""
    if wanted is None:
        desk.tally.say(f"{path}: sum not found")
        return Finding.NOT_IN_SOURCE
    digest = await _one_sum(desk, place, path, entry, algorithm)
    if digest == wanted:
        return Finding.MATCH
    if not digest:
        return Finding.ERROR
    desk.tally.say(f"{path}: {algorithm} differs")
    return Finding.DIFFER


async def _one_sum(desk: Desk, place: Place, path: str, entry: Entry, algorithm: str) -> str | None:
    """The digest; "" where the storage has none for this file, None (and told) where there is none to be had."""
    where = place.path("" if place.is_file else path)
    try:
        return await digest_of(place.remote, where, algorithm, entry, download=bool(desk.values["download"]))
    except Unsupported as problem:
        if algorithm in place.remote.caps.hashes:
            return ""
        desk.tally.failed(path, problem)
    except StorageError as problem:
        desk.tally.failed(path, problem)
    return None


def _read_sums(name: str) -> dict[str, str]:
    """A file of sums as md5sum(1) writes it."""
    try:
        text = Path(name).read_text(errors="surrogateescape")
    except OSError as problem:
        raise Refused(f"--checkfile: {name}: {problem.strerror}") from None
    return dict(_sums_of(text, name))


def _sums_of(text: str, name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(("#", ";")):
            continue
        digest, _, path = line.partition("  ")
        if not path:
            digest, _, path = line.partition(" *")
        if not path or not digest:
            raise Refused(f"--checkfile: {name}:{number}: not 'hash  path'")
        yield path, digest.strip().lower()
