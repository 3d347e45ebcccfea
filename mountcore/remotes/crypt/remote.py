"""The port over encrypted files: a remote around a remote.

Names are translated both ways, sizes too; content is sealed and opened block by block on its way. Times, renames,
copies at the storage and room are the inner remote's.

Where names of files and directories look different at the storage (plain names, or plain directories), a name can
stand for either, and both are asked for. A directory in which there are names, and none that these keys can read, is
an error and not an empty directory: nothing may look deleted because a password is wrong.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from secrets import token_bytes
from typing import TypeVar, cast, final

from ...errors import Denied, Exists, InvalidName, IsDirectory, NotDirectory, NotFound, Refused, StorageError
from ..around import Around
from ..paths import basename, check_path, is_below, join
from ..protocol import Capabilities, Changes, Entry, Expect, Kind, Remote, Source, Span, Usage, Version
from .content import HEAD, NONCE, SealedSource, nonce_of, plain_size, sealed_size, sealed_span, unsealed
from .keys import make_keys
from .names import Encoding, NameMode, Names, NotOurs

Word = TypeVar("Word", NameMode, Encoding)
log = logging.getLogger(__name__)
REMEMBERED = 256
"""Heads of files kept, so that reading here and there does not ask for them again."""


def open(options: dict[str, str], root: str, inner: Remote) -> Crypt:
    """Encrypted files on ``inner``; raises :class:`Refused` for options that make no sense."""
    return Crypt(inner, _names(options), root.strip("/"), flags=_flags(options))


def _names(options: Mapping[str, str]) -> Names:
    mode = _one_of(NameMode, options, "filename_encryption")
    encoding = options.get("filename_encoding") or "base32"
    if encoding == "base32768":
        raise Refused("crypt: filename_encoding = base32768 is not supported; base32 and base64 are")
    suffix = options.get("suffix") or ".bin"
    suffix = "" if suffix == "none" else suffix if suffix[0] == "." else f".{suffix}"
    return Names(
        make_keys(options.get("password", ""), options.get("password2", "")), mode,
        _one_of(Encoding, {"filename_encoding": encoding}, "filename_encoding"),
        _true(options, "directory_name_encryption"), suffix,
    )  # fmt: skip


def _flags(options: Mapping[str, str]) -> frozenset[str]:
    names = ("pass_bad_blocks", "no_data_encryption", "strict_names")
    return frozenset(name for name in names if _true(options, name))


def _one_of(kind: type[Word], options: Mapping[str, str], name: str) -> Word:
    text = options.get(name) or next(iter(kind)).value
    for member in kind:
        if member.value == text:
            return member
    raise Refused(f"crypt: {name} = {text!r} is not one of {', '.join(m.value for m in kind)}")


def _true(options: Mapping[str, str], name: str) -> bool:
    text = (options.get(name) or "false").lower()
    if text not in ("true", "false"):
        raise Refused(f"crypt: {name} = {text!r} is neither true nor false")
    return text == "true"


@final
class Crypt(Around):
    """Encrypted files; see the module."""

    def __init__(self, inner: Remote, names: Names, root: str = "", *, flags: frozenset[str] = frozenset()) -> None:
        super().__init__(inner)
        self._names = names
        self._root = check_path(root)
        self._plain_data = "no_data_encryption" in flags
        self._pass_bad = "pass_bad_blocks" in flags
        self._strict = "strict_names" in flags
        self._nonces: OrderedDict[tuple[str, Version], int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Crypt {self._root!r} on {self.inner!r}>"

    @property
    def identity(self) -> str:
        return f"crypt:{self._names.keys.fingerprint}:{self._root}:{self.inner.identity}"

    @property
    def caps(self) -> Capabilities:
        inner = self.inner.caps
        most = None if inner.max_size is None else plain_size(inner.max_size)
        return replace(
            inner, hashes=frozenset(), append=False, symlinks=False, hard_links=inner.hard_links and self._names.alike,
            public_link=False, case_insensitive=False, max_size=most,
        )  # fmt: skip

    # names

    def check_name(self, path: str) -> None:
        self.inner.check_name(self._file(path))

    def _file(self, path: str) -> str:
        return self._names.file(join(self._root, check_path(path)) if path else self._root)

    def _directory(self, path: str) -> str:
        return self._names.directory(join(self._root, check_path(path)) if path else self._root)

    @contextmanager
    def _about(self, path: str) -> Iterator[None]:
        """Errors name the file as the user knows it."""
        try:
            yield
        except StorageError as problem:
            raise type(problem)(path, problem.said) from problem

    def _shown(self, entry: Entry) -> Entry | None:
        """An entry as the user knows it; None if it is not ours."""
        try:
            if entry.kind is Kind.DIRECTORY:
                return entry._replace(name=self._names.directory_name(entry.name))
            if entry.kind is Kind.FILE:
                return self._sized(entry._replace(name=self._names.file_name(entry.name)))
        except NotOurs:
            pass
        return None

    def _sized(self, entry: Entry) -> Entry | None:
        size = entry.size if self._plain_data else plain_size(entry.size)
        if size is None:
            log.info("%r has a size that no encrypted file has, and is passed over", entry.name)
            return None
        return entry._replace(size=size)

    def _stored(self, entry: Entry, path: str) -> Entry:
        shown = self._sized(entry._replace(name=basename(path)))
        if shown is None:
            raise InvalidName(path, "at the storage it is not an encrypted file")
        return shown

    def _inner_version(self, version: Version) -> Version:
        return version if self._plain_data else version._replace(size=sealed_size(version.size))

    def _inner_expect(self, expect: Expect) -> Expect:
        return self._inner_version(expect) if isinstance(expect, Version) else expect

    # the port

    async def list(self, directory: str) -> AsyncGenerator[Entry, None]:
        with self._about(directory):
            seen = unknown = 0
            entries = cast(AsyncGenerator[Entry, None], self.inner.list(self._directory(directory)))
            async with aclosing(entries):
                async for entry in entries:
                    shown = self._shown(entry)
                    if shown is None:
                        unknown += 1
                        self._pass_over(entry.name)
                    else:
                        seen += 1
                        yield shown
            self._check_any(directory, seen, unknown)

    def _pass_over(self, name: str) -> None:
        if self._strict:
            raise Denied(name, "this name cannot be decrypted, and strict_names is set")
        log.info("%r is not a name of these keys, and is passed over", name)

    def _check_any(self, directory: str, seen: int, unknown: int) -> None:
        if unknown and not seen and self._names.mode is NameMode.STANDARD and self._names.directories:
            raise Denied(directory, f"none of {unknown} names can be decrypted; is the password right?")

    async def stat(self, path: str) -> Entry:
        with self._about(path):
            if not path:
                entry = await self.inner.stat(self._directory(""))
                if entry.kind is not Kind.DIRECTORY:
                    raise NotDirectory(path)
                return entry._replace(name="")
            if self._names.alike:
                entry = await self.inner.stat(self._file(path))
                return (
                    entry._replace(name=basename(path)) if entry.kind is Kind.DIRECTORY else self._stored(entry, path)
                )
            return await self._either(path)

    async def _either(self, path: str) -> Entry:
        """Where a name can be a file's or a directory's: what it is."""
        try:
            entry = await self.inner.stat(self._file(path))
            if entry.kind is Kind.FILE:
                return self._stored(entry, path)
        except NotFound:
            pass
        entry = await self.inner.stat(self._directory(path))
        if entry.kind is not Kind.DIRECTORY:
            raise NotFound(path, "at the storage it is not an encrypted file")
        return entry._replace(name=basename(path))

    async def _must_not_be_directory(self, path: str) -> None:
        if not self._names.alike:
            try:
                entry = await self.inner.stat(self._directory(path))
            except (NotFound, NotDirectory):
                return
            if entry.kind is Kind.DIRECTORY:
                raise IsDirectory(path)

    @asynccontextmanager
    async def read(self, path: str, span: Span, version: Version | None) -> AsyncIterator[AsyncIterator[bytes]]:
        with self._about(path):
            where = self._file(path)
            inner = None if version is None else self._inner_version(version)
            if self._plain_data:
                async with self.inner.read(where, span, inner) as pieces:
                    yield pieces
                return
            wanted = sealed_span(span)
            key = self._names.keys.content
            nonce = None if inner is None else self._nonces.get((where, inner))
            if nonce is None and wanted.start > HEAD:
                async with self.inner.read(where, Span(0, HEAD), inner) as pieces:
                    nonce = nonce_of(b"".join([piece async for piece in pieces]), path)
            if nonce is not None:
                self._remember(where, inner, nonce)
                async with (
                    self.inner.read(where, wanted, inner) as pieces,
                    aclosing(unsealed(pieces, span, key, nonce, path, pass_bad=self._pass_bad)) as plain,
                ):
                    yield plain
                return
            async with (
                self.inner.read(where, Span(0, wanted.stop), inner) as pieces,
                aclosing(self._from_start(pieces, where, inner, span, path)) as plain,
            ):
                yield plain

    async def _from_start(
        self, pieces: AsyncIterator[bytes], where: str, inner: Version | None, span: Span, path: str
    ) -> AsyncGenerator[bytes, None]:
        """Head and content in one request."""
        head = b""
        while len(head) < HEAD:
            piece = await anext(pieces, b"")
            if not piece:
                break
            head += piece
        nonce = nonce_of(head, path)
        self._remember(where, inner, nonce)
        rest = head[HEAD:]

        async def body() -> AsyncGenerator[bytes, None]:
            if rest:
                yield rest
            async for piece in pieces:
                yield piece

        blocks = unsealed(body(), span, self._names.keys.content, nonce, path, pass_bad=self._pass_bad)
        async with aclosing(blocks):
            async for plain in blocks:
                yield plain

    def _remember(self, where: str, version: Version | None, nonce: int) -> None:
        if version is not None:
            self._nonces[where, version] = nonce
            self._nonces.move_to_end((where, version))
            while len(self._nonces) > REMEMBERED:
                self._nonces.popitem(last=False)

    async def put(self, path: str, source: Source, *, expect: Expect, mtime_ns: int | None) -> Entry:
        with self._about(path):
            self._changeable(path)
            await self._must_not_be_directory(path)
            content = source
            if not self._plain_data:
                content = SealedSource(source, self._names.keys.content, token_bytes(NONCE))
            entry = await self.inner.put(
                self._file(path), content, expect=self._inner_expect(expect), mtime_ns=mtime_ns
            )
            return self._stored(entry, path)

    def _changeable(self, path: str) -> None:
        if not path:
            raise InvalidName(path, "the root itself cannot be replaced, moved or removed")

    async def remove(self, path: str) -> None:
        with self._about(path):
            self._changeable(path)
            await self._must_not_be_directory(path)
            await self.inner.remove(self._file(path))

    async def mkdir(self, path: str) -> None:
        with self._about(path):
            if path and not self._names.alike:
                try:
                    await self.inner.stat(self._file(path))
                except (NotFound, NotDirectory):
                    pass
                else:
                    raise Exists(path)
            await self.inner.mkdir(self._directory(path))

    async def rmdir(self, path: str) -> None:
        with self._about(path):
            self._changeable(path)
            if not self._names.alike and (await self._either(path)).kind is not Kind.DIRECTORY:
                raise NotDirectory(path)
            await self.inner.rmdir(self._directory(path))

    async def rename(self, source: str, target: str) -> None:
        with self._about(target):
            self._changeable(source)
            self._changeable(target)
            if is_below(target, source) and target != source:
                await self.stat(source)
                raise InvalidName(target, "a directory cannot be moved into itself")
            if self._names.alike:
                await self.inner.rename(self._file(source), self._file(target))
                return
            moving = await self._either(source)
            try:
                there: Entry | None = await self._either(target)
            except NotFound:
                there = None
            if moving.kind is Kind.DIRECTORY:
                if there is not None and there.kind is not Kind.DIRECTORY:
                    raise NotDirectory(target)
                await self.inner.rename(self._directory(source), self._directory(target))
            else:
                if there is not None and there.kind is Kind.DIRECTORY:
                    raise IsDirectory(target)
                await self.inner.rename(self._file(source), self._file(target))

    async def set_mtime(self, path: str, mtime_ns: int) -> Entry:
        with self._about(path):
            where = await self._place(path)
            entry = await self.inner.set_mtime(where, mtime_ns)
            return self._again(entry, path)

    async def set_mode(self, path: str, mode: int) -> Entry:
        with self._about(path):
            return self._again(await self.inner.set_mode(await self._place(path), mode), path)

    async def set_owner(self, path: str, uid: int | None, gid: int | None) -> Entry:
        with self._about(path):
            return self._again(await self.inner.set_owner(await self._place(path), uid, gid), path)

    async def set_atime(self, path: str, atime_ns: int) -> Entry:
        with self._about(path):
            return self._again(await self.inner.set_atime(await self._place(path), atime_ns), path)

    async def attributes(self, path: str) -> Mapping[str, bytes]:
        with self._about(path):
            return await self.inner.attributes(await self._place(path))

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        with self._about(path):
            await self.inner.set_attribute(await self._place(path), name, value)

    async def _place(self, path: str) -> str:
        """Where something is that may be a file or a directory."""
        if not path:
            return self._directory("")
        if self._names.alike:
            return self._file(path)
        return self._directory(path) if (await self._either(path)).kind is Kind.DIRECTORY else self._file(path)

    def _again(self, entry: Entry, path: str) -> Entry:
        if entry.kind is Kind.DIRECTORY:
            return entry._replace(name=basename(path))
        return self._stored(entry, path)

    async def hard_link(self, source: str, target: str) -> Entry:
        with self._about(target):
            entry = await self.inner.hard_link(self._file(source), self._file(target))
            return self._stored(entry, target)

    async def symlink(self, path: str, target: str) -> Entry:
        return await Remote.symlink(self, path, target)

    async def copy(self, source: str, target: str, *, expect: Expect) -> Entry:
        with self._about(target):
            await self._must_not_be_directory(target)
            expected = self._inner_expect(expect)
            return self._stored(await self.inner.copy(self._file(source), self._file(target), expect=expected), target)

    async def hash(self, path: str, algorithm: str) -> str:
        return await Remote.hash(self, path, algorithm)

    async def public_link(self, path: str, lifetime: float | None) -> str:
        return await Remote.public_link(self, path, lifetime)

    async def list_tree(self, directory: str) -> AsyncGenerator[tuple[str, Entry], None]:
        with self._about(directory):
            base = self._directory(directory)
            found = cast(AsyncGenerator[tuple[str, Entry], None], self.inner.list_tree(base))
            seen = unknown = 0
            async with aclosing(found):
                async for where, entry in found:
                    shown = self._shown(entry)
                    try:
                        below = self._names.directory_path(where[len(base) :].strip("/"))
                    except NotOurs:
                        shown, below = None, ""
                    if shown is None:
                        unknown += 1
                        self._pass_over(entry.name)
                        continue
                    seen += 1
                    yield join(directory, below) if below else directory, shown
            self._check_any(directory, seen, unknown)

    async def changes(self, cursor: str | None) -> Changes:
        told = await self.inner.changes(cursor)
        directories: set[str] = set()
        for where in told.directories:
            try:
                path = self._names.directory_path(where)
            except NotOurs:
                continue
            if is_below(path, self._root):
                directories.add(path[len(self._root) :].strip("/"))
            elif is_below(self._root, path):
                directories.add("")
        return replace(told, directories=tuple(sorted(directories)))

    async def usage(self) -> Usage:
        return await self.inner.usage()
