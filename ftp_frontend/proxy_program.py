"""Running the auth proxy's program: once for each question, or kept running with a line for each.

Used by :mod:`.auth_proxy`. No shell; bounded answers; what the program complains about goes to the log, with
the password masked. The trio thread only.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import Any, final

import trio

from mountcore.errors import Denied, Refused, StorageError, Unreachable

log = logging.getLogger(__name__)

ANSWER_LIMIT = 1 << 20
"""Bytes that the program may answer, and complain."""


class ProxyMode(enum.Enum):
    """How the program is run."""

    PROCESS = "process"
    """Once for every login."""
    STREAM = "stream"
    """Kept running: a line in, a line out; ``{"error": "why"}`` refuses."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The program and its bounds, in seconds."""

    command: tuple[str, ...]
    mode: ProxyMode = ProxyMode.PROCESS
    timeout: float = 30.0
    remember: float = 300.0

    @classmethod
    def of(cls, command: str, mode: ProxyMode, timeout: float, remember: float) -> ProxySettings:
        """From the options; raises :class:`Refused` for a program that is not there."""
        try:
            words = shlex.split(command)
        except ValueError as problem:
            raise Refused(f"--auth-proxy: {problem}") from None
        if not words or shutil.which(words[0]) is None:
            raise Refused(f"--auth-proxy: {words[0] if words else ''!r} is not a program that can be started")
        return cls(tuple(words), mode, timeout, remember)


def parse(text: str) -> dict[str, Any]:
    """The program's answer; raises Refused if it is none."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):  # the latter for a million brackets
        raise Refused("it is not JSON") from None
    if not isinstance(answer, dict):
        raise Refused("it is not a JSON object")
    return answer


def _masked(text: str, password: str) -> str:
    """Without the password, as it is and as JSON or a repr may write it."""
    if not password:
        return text
    forms = {password, json.dumps(password)[1:-1], json.dumps(password, ensure_ascii=False)[1:-1], repr(password)[1:-1]}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def _complain(said: bytes, *passwords: str) -> None:
    """What the program said on its standard error goes to the log."""
    complaint = said.decode(errors="replace").strip()
    for password in passwords:
        complaint = _masked(complaint, password)
    if complaint:
        log.info("auth proxy: %s", complaint[:2000])


async def run_once(command: tuple[str, ...], question: str, password: str) -> str:
    """One run of the program; Denied when it says no."""
    try:
        process = await trio.lowlevel.open_process(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except OSError as problem:
        log.warning("the auth proxy cannot be started: %s", problem.strerror)
        raise Unreachable("", "the auth proxy cannot be started") from None
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output = bytearray()
    complaints = bytearray()
    status: int | None = None
    try:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process.stdin, question)
                nursery.start_soon(_read, process.stdout, output, scope)
                nursery.start_soon(_read, process.stderr, complaints, None)
            status = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()
        _complain(bytes(complaints), password)
    if len(output) > ANSWER_LIMIT:
        log.warning("the auth proxy answers more than %d bytes", ANSWER_LIMIT)
        raise StorageError("", "the auth proxy answers too much")
    if status:
        raise Denied("", "the auth proxy refused")
    return output.decode(errors="replace")


async def _feed(stream: trio.abc.SendStream, question: str) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # a program that does not read may answer all the same
        await stream.send_all(question.encode("utf-8", "surrogateescape") + b"\n")
    await stream.aclose()


async def _read(stream: trio.abc.ReceiveStream, output: bytearray, scope: trio.CancelScope | None) -> None:
    """Everything up to a little over the limit; with more, ``scope`` is cancelled, or the rest dropped."""
    while piece := await stream.receive_some(1 << 16):
        if len(output) <= ANSWER_LIMIT:
            output += piece
        elif scope is not None:
            scope.cancel()


@final
class Stream:
    """The program, kept running; started again when it ended."""

    def __init__(self, settings: ProxySettings) -> None:
        self._command = list(settings.command)
        self._process: trio.Process | None = None
        self._turn = trio.Lock()
        self._rest = b""
        self._said = bytearray()
        """An incomplete line of its standard error."""
        self._former = ""
        """The password of the question before."""

    async def ask(self, question: str, password: str) -> str:
        """One line out, one line in; Denied for ``{"error": …}``."""
        async with self._turn:
            try:
                line = await self._exchange(question.encode("utf-8", "surrogateescape") + b"\n", password)
            except (OSError, trio.BrokenResourceError) as problem:
                await self._kill()
                log.warning("the auth proxy ended: %s", problem)
                raise Unreachable("", "the auth proxy ended") from None
            except BaseException:  # whatever of the answer is still to come must not be taken for the next one's
                with trio.CancelScope(shield=True):
                    await self._kill()
                raise
            text = line.decode(errors="replace")
            try:
                answer = parse(text)
            except Refused as problem:  # what follows may belong to anything
                await self._kill()
                log.warning("the auth proxy's answer cannot be used: %s", problem)
                raise Denied("", "the auth proxy's answer cannot be used") from None
        if "error" in answer:
            log.info("auth proxy: %s", _masked(str(answer["error"]), password)[:2000])
            raise Denied("", "the auth proxy refused")
        return text

    async def _exchange(self, question: bytes, password: str) -> bytes:
        if self._process is None or self._process.poll() is not None:
            await self._kill()
            self._process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        complaints = bytearray()
        problem: str | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, process.stderr, complaints, None)
                nursery.start_soon(self._say, process.stdin, question)
                while b"\n" not in self._rest and problem is None:
                    piece = await process.stdout.receive_some(1 << 16)
                    if not piece:
                        problem = "it ended without an answer"
                    elif len(self._rest) > ANSWER_LIMIT:
                        problem = "it answers too much"
                    self._rest += piece
                nursery.cancel_scope.cancel()
        finally:
            # what it says about a question may arrive with the next one; a line is looked at when it is complete
            lines, newline, rest = bytes(self._said + complaints).rpartition(b"\n")
            self._said = bytearray(rest[-ANSWER_LIMIT:])
            if newline:
                _complain(lines, password, self._former)
            self._former = password
        if problem is not None:
            raise trio.BrokenResourceError(problem)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    @staticmethod
    async def _say(stream: trio.abc.SendStream, question: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # it ended: its answer does as well
            await stream.send_all(question)

    async def _kill(self) -> None:
        process, self._process, self._rest = self._process, None, b""
        self._said = bytearray()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()

    async def aclose(self) -> None:
        """End the program."""
        await self._kill()
