"""The names that an index page links to. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import final
from urllib.parse import unquote, urljoin, urlsplit


@final
class IndexPage(HTMLParser):
    """Feed it text; :meth:`names` answers what lies directly below the page."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self._base = url
        self._hrefs: dict[str, None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            for name, value in attrs:
                if name == "href" and value:
                    self._hrefs[value] = None
        elif tag == "base":
            self._base = urljoin(self._base, dict(attrs).get("href") or "")

    def names(self) -> Iterator[tuple[str, bool]]:
        """Name and whether it is a directory (its link ends in a slash), each once."""
        here = urlsplit(self._base)
        place = here.path if here.path.endswith("/") else here.path.rpartition("/")[0] + "/"
        seen: set[str] = set()
        for href in self._hrefs:
            try:
                to = urlsplit(urljoin(self._base, href))
            except ValueError:
                continue
            if (to.scheme, to.netloc) != (here.scheme, here.netloc) or to.query or to.fragment:
                continue  # columns to sort by are links with a query
            if not _decoded(to.path).startswith(_decoded(place)):
                continue
            rest = to.path[len(place) :] if to.path.startswith(place) else _decoded(to.path)[len(_decoded(place)) :]
            name = _decoded(rest.removesuffix("/"))
            if name in ("", ".", "..") or "/" in name or "\0" in name or name in seen:
                continue
            seen.add(name)
            yield name, rest.endswith("/")


def _decoded(path: str) -> str:
    return unquote(path, errors="surrogateescape")
