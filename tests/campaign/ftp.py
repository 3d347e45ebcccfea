"""Part 6, the FTP side: uploads that break off in every way, and clients that mean harm."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import random
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .ground import PASSWORD, USER, Ground, answers, until
from .table import Row

SIZE = 400_000
VERBS = [
    "USER", "PASS", "ACCT", "REIN", "AUTH", "PBSZ", "PROT", "CCC", "PASV", "EPSV", "PORT", "EPRT", "TYPE", "MODE",
    "STRU", "RETR", "STOR", "STOU", "APPE", "REST", "ALLO", "ABOR", "LIST", "NLST", "MLSD", "MLST", "STAT", "CWD",
    "CDUP", "PWD", "MKD", "RMD", "DELE", "RNFR", "RNTO", "SIZE", "MDTM", "MFMT", "MFF", "HASH", "XCRC", "XMD5",
    "XSHA1", "AVBL", "SITE", "HELP", "FEAT", "OPTS", "CLNT", "LANG", "HOST", "NOOP", "SYST", "CSID", "XMKD", "RANG",
    "LPSV",
]  # fmt: skip


def _process(ground: Ground) -> Path:
    assert ground.gateway is not None
    return Path(f"/proc/{ground.gateway.process.pid}")


def _memory(ground: Ground) -> int:
    """Resident bytes."""
    return int((_process(ground) / "statm").read_text().split()[1]) * resource.getpagesize()


def _descriptors(ground: Ground) -> int:
    """All but those of files in the cache, of which up to 512 stay open for their next use."""
    count = 0
    for descriptor in (_process(ground) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += "/data/" not in os.readlink(descriptor)
    return count


def _threads(ground: Ground) -> int:
    return len(list((_process(ground) / "task").iterdir()))


def _start(ground: Ground, **options: object) -> None:
    ground.storage.start()
    ground.configure(vfs_write_back="50ms")
    text = (ground.home / "gateway.toml").read_text()
    more = "".join(f'{name.replace("_", "-")} = "{value}"\n' for name, value in options.items())
    (ground.home / "gateway.toml").write_text(text + more)
    ground.start()


@contextmanager
def _served(ground: Ground, row: Row, worst: float) -> Iterator[None]:
    """Another session works all the while, no operation of it slower than ``worst`` seconds."""
    stop = threading.Event()
    data = os.urandom(50_000)

    def work() -> None:
        try:
            with ground.ftp() as session:
                while not stop.is_set():
                    for what in (
                        lambda: session.storbinary("STOR witness", io.BytesIO(data)),
                        lambda: session.retrbinary("RETR witness", lambda piece: None),
                        lambda: session.nlst(),
                    ):
                        row.within(worst, "another session's operation", what)
        except (ftplib.Error, OSError, EOFError) as problem:
            row.fail(f"another session: {problem!r}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def aborted_uploads(ground: Ground, row: Row) -> None:
    """However an upload breaks off, the old file stays, and nothing is left lying about."""
    _start(ground)
    old = os.urandom(SIZE)
    (ground.storage.folder / "file").write_bytes(old)

    def data_reset(session: ftplib.FTP, data: socket.socket) -> None:
        _reset(data)
        with contextlib.suppress(ftplib.Error, OSError, EOFError):
            session.voidresp()

    def reset_control(session: ftplib.FTP) -> None:
        assert session.sock is not None
        assert session.file is not None
        session.file.close()  # it holds the connection open, too
        _reset(session.sock)

    def control_lost(session: ftplib.FTP, data: socket.socket) -> None:
        reset_control(session)
        data.close()

    def client_killed(session: ftplib.FTP, data: socket.socket) -> None:
        session.close()
        data.close()

    def abor(session: ftplib.FTP, data: socket.socket) -> None:
        session.putcmd("ABOR")
        for _ in range(2):
            with contextlib.suppress(ftplib.Error):
                session.getmultiline()
        data.close()

    def both_lost(session: ftplib.FTP, data: socket.socket) -> None:
        _reset(data)
        reset_control(session)

    ways = [data_reset, control_lost, client_killed, abor, both_lost]
    for number in range(ground.scaled(20, 400)):
        command = ground.chance.choice(["STOR file", "STOR new", "APPE file", "REST"])
        with contextlib.suppress(ftplib.Error, OSError, EOFError), ground.ftp() as session:
            session.voidcmd("TYPE I")
            rest = 1000 if command == "REST" else None
            data = session.transfercmd("STOR file" if rest else command, rest)
            data.sendall(os.urandom(ground.chance.randrange(1, SIZE)))
            time.sleep(ground.chance.uniform(0, 0.02))  # some of it has arrived, and some has not
            ways[number % len(ways)](session, data)
        row.injected += 1
        with ground.ftp() as session:
            row.checked += 1
            session.voidcmd("TYPE I")
            if (size := session.size("file")) != SIZE:
                row.lose(f"{command} ended by {ways[number % len(ways)].__name__}: the file has {size} bytes")
                break
    with ground.ftp() as session:
        row.checked += 1
        if (names := sorted(session.nlst())) != ["file"]:
            row.tear(f"there is {names}")
        found = io.BytesIO()
        session.retrbinary("RETR file", found.write)
    if found.getvalue() != old:
        row.lose(f"the old file is {len(found.getvalue())} bytes now")
    ground.drain()
    row.checked += 1
    if ground.stored() != {"file": old}:
        row.tear(f"the storage has {sorted(ground.stored())}")
    left = [p for p in (ground.home / "cache").glob("portside/*/data/*/*") if p.stat().st_blocks and p.name.isdigit()]
    if len(left) > 1:
        row.tear(f"{len(left)} files are left in the cache")


def many_sessions(ground: Ground, row: Row) -> None:
    """Idle sessions by the hundred, and active ones by the score, and what they cost."""
    _start(ground, max_connections=2000, idle_timeout="10m")
    idle_count, active_count = ground.scaled(200, 1000), ground.scaled(30, 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    before = _memory(ground), _descriptors(ground), _threads(ground)
    idle: list[ftplib.FTP] = []
    try:
        for _ in range(idle_count):
            session = ftplib.FTP(timeout=30)
            session.connect("127.0.0.1", ground.port)
            session.login(USER, PASSWORD)
            idle.append(session)
        row.injected += idle_count
        each = (_memory(ground) - before[0]) / idle_count
        if each > 400_000:
            row.fail(f"an idle session costs {each / 1024:.0f} KiB")

        def work(number: int) -> None:
            data = random.Random(number).randbytes(100_000)
            with ground.ftp(60) as session:
                session.storbinary(f"STOR active{number}", io.BytesIO(data))
                found = io.BytesIO()
                session.retrbinary(f"RETR active{number}", found.write)
                row.checked += 1
                if found.getvalue() != data:
                    row.lose(f"active{number} came back with {len(found.getvalue())} other bytes")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(active_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            if thread.is_alive():
                row.hang("an active session hangs")
    finally:
        for session in idle:
            session.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        until(lambda: _descriptors(ground) <= before[1] + 40 and _threads(ground) <= before[2] + 10, "all is let go of")
    except AssertionError:
        row.fail(f"left are {_descriptors(ground) - before[1]} descriptors, {_threads(ground) - before[2]} threads")
    if ground.drain():
        row.fail("it could not be stored")
    if len(ground.stored()) != active_count:
        row.lose(f"{len(ground.stored())} of {active_count} files are stored")


def _raw(ground: Ground, *, login: bool = True) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", ground.port), 20)
    sock.recv(1000)
    if login:
        for line in (f"USER {USER}", f"PASS {PASSWORD}"):
            sock.sendall(line.encode() + b"\r\n")
            sock.recv(1000)
    return sock


def hostile_bytes(ground: Ground, row: Row) -> None:
    """Lines of 10 MB, NULs, telnet sequences, floods, and clients that say a byte a second."""
    _start(ground, idle_timeout="10s", data_timeout="10s")
    (ground.storage.folder / "inside").write_bytes(b"inside")
    (ground.home / "outside").write_bytes(b"outside")
    os.symlink(ground.home, ground.storage.folder / "escape")
    before = _memory(ground)
    lines = [
        b"A" * 10_000_000, b"\0" * 5000 + b"\r\n", b"\xff\xf4\xff\xf2" * 1000 + b"ABOR\r\n", b"NOOP\n" * 50_000,
        b"PASV\r\n" * 3000, b"CWD " + b"../" * 2000 + b"\r\n", b"RETR ..%2f..%2foutside\r\n",
        b"RETR \xc0\xae\xc0\xae/outside\r\n",
        b"RETR /../outside\r\n", b"RETR ..\\..\\outside\r\n", b"RETR escape/outside\r\n", b"SITE " * 1000 + b"\r\n",
        b"PORT 8,8,8,8,0,80\r\nLIST\r\n", b"EPRT |1|8.8.8.8|80|\r\nLIST\r\n", b"PORT 127,0,0,1,0,22\r\nLIST\r\n",
        b"MKD \x01\x02\x03\r\n", b"STOR a\rb\r\n", b"RNTO x\r\n", b"REST -1\r\nREST 99999999999999999999\r\n",
    ]  # fmt: skip
    with _served(ground, row, 10.0):
        for login in (False, True):
            for line in lines:
                with contextlib.suppress(OSError):
                    sock = _raw(ground, login=login)
                    with sock:
                        sock.settimeout(3)
                        sock.sendall(line)
                        sock.shutdown(socket.SHUT_WR)
                        said = b""
                        while more := sock.recv(65536):
                            said += more
                        row.checked += 1
                        if b"outside" in said.replace(b"../outside", b"") and b"150" in said:
                            row.fail(f"{line[:40]!r} got out of the root")
                row.injected += 1
        slow = [_raw(ground, login=bool(n % 2)) for n in range(ground.scaled(20, 200))]
        deadline = time.monotonic() + ground.scaled(4, 60)
        while time.monotonic() < deadline:
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.sendall(b"N")
            time.sleep(0.5)  # that is the attack
        row.injected += len(slow)
        for sock in slow:
            sock.close()
    grown = _memory(ground) - before
    if grown > 64 << 20:
        row.fail(f"{grown >> 20} MiB more resident")
    ground.drain()


def stolen_port(ground: Ground, row: Row) -> None:
    """A third host connects to the passive port first: it gets nothing, and the client its data."""
    _start(ground)
    secret = os.urandom(SIZE)
    (ground.storage.folder / "secret").write_bytes(secret)
    for _ in range(ground.scaled(5, 50)):
        with ground.ftp() as session:
            session.voidcmd("TYPE I")
            answer = session.sendcmd("EPSV")
            port = int(re.search(r"\|\|\|(\d+)\|", answer)[1])  # type: ignore[index]
            thief = socket.socket()
            thief.bind(("127.0.0.2", 0))
            thief.settimeout(1)
            stolen = b""
            with contextlib.suppress(OSError):
                thief.connect(("127.0.0.1", port))
            row.injected += 1
            session.putcmd("RETR secret")
            with contextlib.suppress(OSError):
                stolen = thief.recv(SIZE)
            row.checked += 1
            if stolen:
                row.fail(f"the thief got {len(stolen)} bytes")
            thief.close()
    ground.drain()


def _two_free_ports() -> int:
    """The first of two ports in a row that nobody has."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                other.bind(("127.0.0.1", one.getsockname()[1] + 1))
                return int(one.getsockname()[1])


def exhausted_ports(ground: Ground, row: Row) -> None:
    """Every passive port is taken: 425, and not a port from outside the range."""
    low = _two_free_ports()
    ground.storage.start()
    ground.configure()
    text = (ground.home / "gateway.toml").read_text().replace('"any"', f'"{low}-{low + 1}"')
    (ground.home / "gateway.toml").write_text(text)
    ground.start()
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(ground.ftp()) for _ in range(4)]
        said = []
        for session in sessions:
            try:
                said.append(session.sendcmd("PASV")[:3])
            except ftplib.Error as answer:
                said.append(str(answer)[:3])
        row.injected += 1
        row.checked += len(said)
        if sorted(said) != ["227", "227", "425", "425"]:
            row.fail(f"four clients and two ports: {said}")
    ground.drain()


def fuzz(ground: Ground, row: Row) -> None:
    """Commands by a grammar, well-formed and not: no traceback, nothing leaks, nobody else notices."""
    _start(ground, max_login_attempts=100, ban_after=0, login_delay="0s")
    words = ["", "a", "d", "d/x", "/", "..", "a b", "é", "\x00", "%", "-la", "I", "A", "S", "F", "P", "C", "0", "-1",
             "5", "99999999999", "UTF8 ON", "CHMOD 644 a", "UTIME a", "20200101000000 a", "SHA-256", "*", "[a]", "~",
             "x" * 3000, "127,0,0,1,7,7", "|1|127.0.0.1|2000|", "|||", "TLS", "a\tb",
             "\xff\xfe", USER, PASSWORD]  # fmt: skip
    before = _descriptors(ground), _threads(ground), _memory(ground)
    chance = random.Random(ground.chance.random())
    deadline = time.monotonic() + ground.scaled(8, 600)
    with _served(ground, row, 10.0):
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                sock = _raw(ground, login=chance.random() < 0.9)
                with sock:
                    sock.settimeout(0.2)
                    for _ in range(chance.randrange(1, 40)):
                        line = f"{chance.choice(VERBS)} {' '.join(chance.choices(words, k=chance.randrange(0, 3)))}"
                        if chance.random() < 0.05:
                            line = line[: chance.randrange(len(line))] + chr(chance.randrange(256))
                        sock.sendall(
                            line.encode("utf-8", "surrogateescape") + chance.choice([b"\r\n", b"\n", b"\r\n\r\n"])
                        )
                        row.injected += 1
                        if chance.random() < 0.3:
                            with contextlib.suppress(TimeoutError):
                                sock.recv(4096)
            row.checked += 1
    try:
        until(lambda: _descriptors(ground) <= before[0] + 40 and _threads(ground) <= before[1] + 10, "all is let go of")
    except AssertionError:
        row.fail(f"left are {_descriptors(ground) - before[0]} descriptors, {_threads(ground) - before[1]} threads")
    if (grown := _memory(ground) - before[2]) > 96 << 20:
        row.fail(f"{grown >> 20} MiB more resident")
    if not answers(lambda: os.listdir(ground.mountpoint), 5):
        row.hang("the mount hangs")
    ground.drain()


def scenarios(long: bool) -> dict[str, Callable[[Ground, Row], None]]:
    """By name."""
    return {
        "uploads break off in every way": aborted_uploads,
        "hundreds of idle sessions, scores of active ones": many_sessions,
        "bytes that no client sends": hostile_bytes,
        "somebody else connects to the passive port": stolen_port,
        "the passive range is exhausted": exhausted_ports,
        "commands by a grammar": fuzz,
    }
