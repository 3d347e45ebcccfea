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
    except ValueError:
        raise Refused("it is not JSON") from None
    if not isinstance(answer, dict):
        raise Refused("it is not a JSON object")
    return answer


def _masked(text: str, password: str) -> str:
    return text.replace(password, "***") if password else text


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
    output: dict[str, bytes] = {}
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process.stdin, question)
            nursery.start_soon(_read, process.stdout, output, "out")
            nursery.start_soon(_read, process.stderr, output, "err")
        status = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                await stream.aclose()
    complaint = _masked(output["err"].decode(errors="replace").strip(), password)
    if complaint:
        log.info("auth proxy: %s", complaint[:2000])
    if status:
        raise Denied("", "the auth proxy refused")
    if len(output["out"]) > ANSWER_LIMIT:
        raise StorageError("", "the auth proxy answers too much")
    return output["out"].decode(errors="replace")


async def _feed(stream: trio.abc.SendStream, question: str) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # a program that does not read may answer all the same
        await stream.send_all(question.encode("utf-8", "surrogateescape") + b"\n")
    await stream.aclose()


async def _read(stream: trio.abc.ReceiveStream, output: dict[str, bytes], name: str) -> None:
    """Everything up to a little over the limit; what comes after is dropped."""
    data = b""
    while piece := await stream.receive_some(1 << 16):
        if len(data) <= ANSWER_LIMIT:
            data += piece
    output[name] = data


@final
class Stream:
    """The program, kept running; started again when it ended."""

    def __init__(self, settings: ProxySettings) -> None:
        self._command = list(settings.command)
        self._process: trio.Process | None = None
        self._turn = trio.Lock()
        self._rest = b""

    async def ask(self, question: str, password: str) -> str:
        """One line out, one line in; Denied for ``{"error": …}``."""
        async with self._turn:
            try:
                line = await self._exchange(question.encode("utf-8", "surrogateescape") + b"\n")
            except (OSError, trio.BrokenResourceError) as problem:
                await self._kill()
                log.warning("the auth proxy ended: %s", problem)
                raise Unreachable("", "the auth proxy ended") from None
            except BaseException:  # whatever of the answer is still to come must not be taken for the next one's
                with trio.CancelScope(shield=True):
                    await self._kill()
                raise
        text = line.decode(errors="replace")
        answer = parse(text)
        if "error" in answer:
            log.info("auth proxy: %s", _masked(str(answer["error"]), password)[:2000])
            raise Denied("", "the auth proxy refused")
        return text

    async def _exchange(self, question: bytes) -> bytes:
        if self._process is None or self._process.poll() is not None:
            await self._kill()
            self._process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send_all(question)
        while b"\n" not in self._rest:
            piece = await process.stdout.receive_some(1 << 16)
            if not piece or len(self._rest) > ANSWER_LIMIT:
                raise trio.BrokenResourceError("no complete answer")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def _kill(self) -> None:
        process, self._process, self._rest = self._process, None, b""
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()

    async def aclose(self) -> None:
        """End the program."""
        await self._kill()
