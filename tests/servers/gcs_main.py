"""Google Cloud Storage as a process: ``python gcs_main.py PORT BACKEND_PORT PROGRAM``.

fake-gcs-server keeps objects with their generations, checksums and metadata, and answers the reading half of the XML
interface. What it does not answer of it (``PUT``, ``DELETE``, ``x-goog-copy-source``, conditions on them) is asked of
its JSON interface here, and parts of an upload are joined; the rest passes unchanged. Which request means which is
from Google's description of both.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BOUNDARY = "between-the-parts"
MADE = {"content-length", "transfer-encoding", "connection", "date", "server"}
"""Headers of an answer that are made anew."""
_numbers = itertools.count(1)


def _said(what: str, **parts: str) -> bytes:
    return f"<{what}>{''.join(f'<{name}>{escape(text)}</{name}>' for name, text in parts.items())}</{what}>".encode()


@dataclass
class Upload:
    """An upload in parts."""

    about: dict[str, Any]
    parts: dict[int, bytes] = field(default_factory=dict)


class Front(BaseHTTPRequestHandler):
    """One connection of a client, and one to the backend."""

    protocol_version = "HTTP/1.1"
    backend = ""
    uploads: ClassVar[dict[str, Upload]] = {}
    _kept: http.client.HTTPConnection | None = None

    def setup(self) -> None:
        super().setup()
        self._kept = http.client.HTTPConnection(self.backend, timeout=30)

    def finish(self) -> None:
        super().finish()
        if self._kept is not None:
            self._kept.close()

    def log_message(self, format: str, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self._pass()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        bucket, key, query = self._asked()
        if "uploads" in query:
            upload = f"upload-{next(_numbers)}"
            self.uploads[upload] = Upload(self._about(key))
            self._answer(200, {}, _said("InitiateMultipartUploadResult", UploadId=upload))
        elif upload := query.get("uploadId", ""):
            self._body()  # the parts and their tags: all that were sent
            found = self.uploads.pop(upload)
            status, headers, body = self._store(
                bucket, found.about, b"".join(data for _, data in sorted(found.parts.items()))
            )
            said = _said("CompleteMultipartUploadResult", ETag=headers.get("ETag", ""))
            self._answer(status, headers, said if status == 200 else body)
        else:
            self._pass()

    def do_PUT(self) -> None:
        bucket, key, query = self._asked()
        if upload := query.get("uploadId", ""):
            data = self._body()
            self.uploads[upload].parts[int(query["partNumber"])] = data
            self._answer(200, {"ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'}, b"")
        elif query or not key or bucket == "storage":
            self._pass()
        elif source := self.headers.get("x-goog-copy-source"):
            from_bucket, _, from_key = unquote(source).strip("/").partition("/")
            at = f"/storage/v1/b/{from_bucket}/o/{quote(from_key, safe='')}"
            status, _, body = self._ask("POST", f"{at}/rewriteTo/b/{bucket}/o/{quote(key, safe='')}{self._if()}", b"{}")
            self._answer(status, {}, b"<CopyObjectResult/>" if status == 200 else body)
        else:
            self._answer(*self._store(bucket, self._about(key), self._body()))

    def do_DELETE(self) -> None:
        bucket, key, query = self._asked()
        if upload := query.get("uploadId", ""):
            self.uploads.pop(upload, None)
            self._answer(204, {}, b"")
            return
        if query or not key or bucket == "storage":
            self._pass()
            return
        status, _, body = self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}", b"")
        self._answer(204 if status == 200 else status, {}, b"" if status == 200 else body)

    def _about(self, key: str) -> dict[str, Any]:
        """What the headers say about an object to be stored."""
        start = "x-goog-meta-"
        meta = {
            name[len(start) :].lower(): value for name, value in self.headers.items() if name.lower().startswith(start)
        }
        kind = self.headers.get("content-type", "application/octet-stream")
        about = {"name": key, "contentType": kind, "metadata": meta}
        if found := self.headers.get("x-goog-storage-class"):
            about["storageClass"] = found
        return about

    def _store(self, bucket: str, about: dict[str, Any], data: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = (
            f"--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{json.dumps(about)}\r\n".encode(),
            f"--{BOUNDARY}\r\nContent-Type: {about['contentType']}\r\n\r\n".encode(),
            data,
            f"\r\n--{BOUNDARY}--\r\n".encode(),
        )
        headers = {"Content-Type": f"multipart/related; boundary={BOUNDARY}"}
        where = f"/upload/storage/v1/b/{bucket}/o{self._if()}{'&' if self._if() else '?'}uploadType=multipart"
        status, _, body = self._ask("POST", where, b"".join(parts), headers)
        if status != 200:
            return status, {}, body
        stored = json.loads(body)
        return 200, {"ETag": f'"{stored["etag"]}"', "x-goog-generation": str(stored["generation"])}, b""

    def _if(self) -> str:
        generation = self.headers.get("x-goog-if-generation-match")
        return f"?ifGenerationMatch={generation}" if generation else ""

    def _asked(self) -> tuple[str, str, dict[str, str]]:
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        return bucket, unquote(key), dict(parse_qsl(parts.query, keep_blank_values=True))

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _pass(self) -> None:
        gone = ("host", "connection", "content-length", "transfer-encoding")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in gone}
        self._answer(*self._ask(self.command, self.path, self._body(), headers))

    def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        assert self._kept is not None
        self._kept.request(method, path, body or None, dict(headers or {"Content-Type": "application/json"}))
        answer = self._kept.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in MADE:
                self.send_header(name, value)
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), str(len(body)))
        if status != 204:
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Fronts(ThreadingHTTPServer):
    """All clients, each in a thread."""

    daemon_threads = True
    request_queue_size = 128


def main(port: int, backend: int, program: str) -> None:
    """Serve until killed; the backend ends with us, being in our process group."""
    Front.backend = f"127.0.0.1:{backend}"
    command = [program, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(backend)]
    subprocess.Popen([*command, "-public-host", Front.backend])
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", backend), 5).close()
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    Fronts(("127.0.0.1", port), Front).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
