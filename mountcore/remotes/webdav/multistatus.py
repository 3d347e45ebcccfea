"""Reading 207 Multi-Status answers (RFC 4918 §13) as they arrive. Pure.

Entities and document types are refused before anything is expanded; depth and text are bounded; an answer of any
length is read with the memory of one entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final
from xml.parsers import expat

from ...errors import Corrupt

DEEPEST = 64
LONGEST = 1 << 16
"""Characters in one element."""
OC = "http://owncloud.org/ns"
_DAV = "DAV:"


@dataclass(frozen=True, slots=True)
class Item:
    """One ``response`` element: where, and the properties that the server has for it."""

    href: str
    properties: Mapping[str, str] = field(default_factory=dict)
    """Text by name; those of DAV: by their local name, others as ``namespace name``."""
    collection: bool = False
    status: int = 200
    """Of the whole response, where it has one."""


@final
class Reader:
    """Feed it pieces, take items."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refused
        self._parser.EntityDeclHandler = self._refused
        self._depth = 0
        self._text: list[str] = []
        self._length = 0
        self._ready: list[Item] = []
        self._seen = False
        self._clear()

    def feed(self, piece: bytes, *, last: bool = False) -> list[Item]:
        """The items that are complete now. ``Corrupt`` for what is not a multi-status answer."""
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as problem:
            raise Corrupt("", f"the server's answer is not XML: {expat.ErrorString(problem.code)}") from None
        if last and not self._seen:
            raise Corrupt("", "the server's answer is XML, but not about files")
        ready, self._ready = self._ready, []
        return ready

    def _clear(self) -> None:
        self._href = ""
        self._collection = False
        self._status = 200
        self._found: dict[str, str] = {}
        self._group: dict[str, str] = {}
        self._group_collection = False
        self._group_status = 200
        self._in_group = False

    def _refused(self, *_: object) -> None:
        raise Corrupt("", "the server's answer declares a document type or entities, which is refused")

    def _start(self, name: str, _: object) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Corrupt("", "the server's answer is nested too deeply")
        self._text, self._length = [], 0
        match name:
            case "DAV: multistatus":
                self._seen = True
            case "DAV: response":
                self._clear()
            case "DAV: propstat":
                self._group, self._group_collection, self._group_status, self._in_group = {}, False, 200, True
            case "DAV: collection":
                self._group_collection = True

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length > LONGEST:
            raise Corrupt("", "the server's answer has a value without an end")
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        text = "".join(self._text).strip()
        self._text, self._length = [], 0
        match name:
            case "DAV: response":
                self._ready.append(Item(self._href, self._found, self._collection, self._status))
            case "DAV: propstat":
                self._in_group = False
                if self._group_status // 100 == 2:
                    self._found |= self._group
                    self._collection = self._collection or self._group_collection
            case "DAV: status":
                code = text.split(" ")[1:2]
                number = int(code[0]) if code and code[0].isdecimal() else 500
                if self._in_group:
                    self._group_status = number
                else:
                    self._status = number
            case "DAV: href" if not self._in_group:
                self._href = self._href or text
            case _ if self._in_group and text:
                namespace, _, local = name.rpartition(" ")
                known = self._group.get(local if namespace == _DAV else name, "")
                self._group[local if namespace == _DAV else name] = f"{known} {text}".strip()
