"""What every option of the SFTP remote changes, whom it trusts, and how it meets servers in their odd moments."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from conftest import SFTP, Place, Servers, fresh
from sources import Content, Pattern, entries, fetch, put

from mountcore.errors import Denied, Refused, StorageError, TimedOut, Unreachable, Unsupported
from mountcore.remotes.conf import Config
from mountcore.remotes.protocol import ANYTHING, Kind, Remote, Span
from mountcore.remotes.registry import open_remote
from mountcore.remotes.sftp import SftpRemote
from mountcore.remotes.sftp.options import parse
from tests.servers.ssh import make_key, sshd

pytestmark = pytest.mark.trio


@pytest.fixture
def at(servers: Servers, tmp_path: Path) -> Place:
    """OpenSSH with a shell."""
    return fresh("sshd", servers, tmp_path)


@pytest.fixture
def by_password(servers: Servers, tmp_path: Path) -> Place:
    """asyncssh's server."""
    return fresh("asyncssh", servers, tmp_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, without an agent."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home/.ssh").mkdir(parents=True, mode=0o700)
    return tmp_path / "home"


def bare(place: Place) -> SftpRemote:
    """Without patience."""
    return SftpRemote(parse(place.options | {"timeout": "10s"}), place.root)


async def used(remote: Remote) -> Remote:
    """A round trip; closes the remote."""
    try:
        await put(remote, "f", b"content" * 10_000)
        assert await fetch(remote, "f") == b"content" * 10_000
        assert "f" in await entries(remote)
    finally:
        await remote.aclose()
    return remote


async def refused(remote: Remote, kind: type[StorageError], words: str) -> str:
    with pytest.raises(kind, match=words) as caught:
        await remote.stat("")
    await remote.aclose()
    return str(caught.value)


# logging in


async def test_wrong_passwords_and_keys_are_denied(at: Place, by_password: Place, tmp_path: Path) -> None:
    said = await refused(by_password.open(**{"pass": "wrong secret"}), Denied, "login of harbour .* refused")
    assert "wrong secret" not in said
    await refused(at.open(key_file=str(make_key(tmp_path / "other"))), Denied, "refused; offered were .*other")


async def test_keys_in_every_form(at: Place, tmp_path: Path) -> None:
    key = Path(at.options["key_file"])
    locked = tmp_path / "locked"
    shutil.copy(key, locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "pass phrase", "-f", locked], check=True, capture_output=True)
    await used(at.open(key_file=str(locked), key_file_pass="pass phrase"))
    await used(at.open(key_file="", key_pem=key.read_text().strip().replace("\n", "\\n")))
    for options, words in (
        ({"key_file": str(locked)}, "encrypted; set key_file_pass"),
        ({"key_file": str(locked), "key_file_pass": "x"}, "not its passphrase"),
        ({"key_file": "/no/such/key"}, "key_file: /no/such/key cannot be read"),
        ({"key_file": "/etc/hostname"}, "not a private key"),
        ({"key_pem": "x"}, "exclude each other"),
    ):
        with pytest.raises(Refused, match=words):
            at.open(**options)


async def test_a_certificate(tmp_path: Path) -> None:
    authority, key = make_key(tmp_path / "authority"), make_key(tmp_path / "id")
    with sshd(lines=[f"TrustedUserCAKeys {authority}.pub"]) as server:
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n", server.user, f"{key}.pub"]
        subprocess.run(sign, check=True, capture_output=True)
        options = server.options | {"key_file": str(key)}
        await refused(open_remote("sftp", options, server.prefix), Denied, "refused")
        await used(open_remote("sftp", options | {"pubkey_file": f"{key}-cert.pub"}, server.prefix))
    with pytest.raises(Refused, match="pubkey_file"):
        open_remote("sftp", options | {"pubkey_file": f"{key}.pub"}, server.prefix)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A running ssh-agent's socket."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield path
    finally:
        process.kill()
        process.wait()


async def test_an_agent(at: Place, agent: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="SSH_AUTH_SOCK"):
        at.open(key_file="", key_use_agent="true")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    await refused(at.open(key_file="", key_use_agent="true"), Denied, "the agent's keys")
    subprocess.run(["ssh-add", "-q", make_key(home / "useless"), at.options["key_file"]], check=True)
    await used(at.open(key_file="", key_use_agent="true"))
    await used(at.open(key_use_agent="true"))  # only the key beside the .pub
    await refused(at.open(key_file=str(home / "useless"), key_use_agent="true"), Denied, "refused")
    await used(at.open(key_file=""))  # what ssh does without being told anything


async def test_the_ssh_configuration_is_honoured(at: Place, home: Path) -> None:
    hosts = home / ".ssh/hosts"
    hosts.write_text(Path(at.options["known_hosts_file"]).read_text())
    (home / ".ssh/config").write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {at.options['port']}\n  User {at.options['user']}\n"
        f"  IdentityFile {at.options['key_file']}\n  UserKnownHostsFile {hosts}\n"
    )
    remote = await used(open_remote("sftp", {"host": "box"}, at.root))
    assert remote.identity == f"sftp://box:22/{at.root}"
    jump = await used(Config(None, {"HOME": str(home)}).open(f"sftp://box/{at.root}"))
    assert jump.identity == remote.identity
    hosts.write_text("")
    await refused(open_remote("sftp", {"host": "box"}, at.root), Denied, "host key of .* is not known")
    (home / ".ssh/config").write_text("Port notanumber\n")
    with pytest.raises(Refused, match="ssh/config"):
        open_remote("sftp", {"host": "box"}, at.root)
    await refused(at.open(ssh_config="none", host="no-such-host.invalid"), Unreachable, "cannot be resolved")


# host keys


async def test_an_unknown_host_is_refused_with_the_remedy(at: Place, home: Path) -> None:
    port = at.options["port"]
    said = await refused(at.open(known_hosts_file=""), Denied, "is not known")
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", Path(at.options["known_hosts_file"]).with_name("host.pub")], capture_output=True
    )
    assert listed.stdout.decode().split()[1] in said  # the fingerprint
    assert f"ssh-keyscan -p {port} 127.0.0.1 >> ~/.ssh/known_hosts" in said
    scanned = subprocess.run(["ssh-keyscan", "-p", port, "127.0.0.1"], capture_output=True, check=True)
    (home / ".ssh/known_hosts").write_bytes(scanned.stdout)
    await used(at.open(known_hosts_file=""))


async def test_trust_on_first_use_only_when_asked(at: Place, home: Path) -> None:
    file = home / "hosts"
    file.write_text("elsewhere ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIbJKuFYYWw4rT5nvSDqTCUzS9gmH1wfdQQCd0kMJQNW")
    await refused(at.open(known_hosts_file=str(file)), Denied, "is not known")
    await used(at.open(known_hosts_file=str(file), strict_host_key_checking="accept-new"))
    assert len(file.read_text().splitlines()) == 2
    await used(at.open(known_hosts_file=str(file)))
    name = f"[127.0.0.1]:{at.options['port']}"
    file.write_text(f"{name} {make_key(home / 'other').with_suffix('.pub').read_text()}")
    said = await refused(
        at.open(known_hosts_file=str(file), strict_host_key_checking="accept-new"), Denied, "has CHANGED"
    )
    assert f"ssh-keygen -R '{name}' -f {file}" in said
    await used(at.open(known_hosts_file=str(file), strict_host_key_checking="no"))
    file.write_text(f"{name} {make_key(home / 'rsa', kind='rsa').with_suffix('.pub').read_text()}")
    await refused(at.open(known_hosts_file=str(file)), Denied, "has CHANGED to ssh-ed25519")


async def test_algorithms_can_be_chosen(at: Place) -> None:
    await used(at.open(ciphers="aes256-ctr", macs="hmac-sha2-256", key_exchange="curve25519-sha256"))
    await used(at.open(host_key_algorithms="ssh-ed25519", use_insecure_cipher="true"))
    await refused(at.open(ciphers="3des-cbc"), Unsupported, "see host_key_algorithms, ciphers")
    with pytest.raises(Refused, match="rot13 is not a valid encryption"):
        at.open(ciphers="rot13")


# a server that goes away


@pytest.mark.parametrize("name", SFTP)
async def test_a_server_that_is_down_says_nothing_about_files(name: str, servers: Servers, tmp_path: Path) -> None:
    place = fresh(name, servers, tmp_path)
    assert place.server is not None
    remote = bare(place)
    await put(remote, "f", b"x")
    place.server.stop()
    try:
        for attempt in (remote.stat("f"), fetch(remote, "f"), entries(remote), put(remote, "g"), remote.remove("f")):
            with pytest.raises(Unreachable) as caught:
                await attempt
            assert f"127.0.0.1:{place.options['port']}" in str(caught.value)
    finally:
        place.server.start()
    assert await fetch(remote, "f") == b"x"
    await remote.aclose()


async def test_a_server_killed_in_the_middle(at: Place) -> None:
    """Both ways; nothing of the upload shows, and a download goes on where it broke off."""
    assert at.server is not None
    server, size = at.server, 40 << 20
    remote = at.open()
    await remote.put("big", Pattern(size), expect=ANYTHING, mtime_ns=None)

    def cut(offset: int) -> None:
        if offset >= 8 << 20 and not cuts:
            cuts.append(offset)
            server.stop()
            server.start()

    cuts: list[int] = []
    with pytest.raises((Unreachable, TimedOut)):
        await remote.put("new", Content(bytes(16 << 20), before=cut), expect=ANYTHING, mtime_ns=None)
    assert sorted(await entries(remote)) == ["big"]
    digest, got = hashlib.sha256(), 0
    version = (await remote.stat("big")).version
    async with remote.read("big", Span(0, size), version) as pieces:
        async for piece in pieces:
            digest.update(piece)
            if got < 10 << 20 <= got + len(piece):
                await trio.to_thread.run_sync(server.stop)
                await trio.to_thread.run_sync(server.start)
            got += len(piece)
    assert got == size
    assert digest.hexdigest() == await remote.hash("big", "sha256")
    await remote.aclose()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    options = {"host": "127.0.0.1", "port": str(listener.getsockname()[1]), "ssh_config": "none", "user": "u"}
    remote = SftpRemote(parse(options | {"connect_timeout": "300ms", "pass": "x"}))
    with trio.fail_after(10), pytest.raises(TimedOut, match="did not let us in"):
        await remote.stat("")
    await remote.aclose()
    listener.close()


async def test_a_stopped_server_times_out(at: Place) -> None:
    """Frozen, not dead: its connections stay open."""
    with sshd() as server:
        remote = SftpRemote(parse(server.options | {"timeout": "500ms"}), server.prefix)
        await remote.stat("")
        frozen = [int(line) for line in subprocess.run(
            ["pgrep", "-f", "sftp-server"], capture_output=True).stdout.split()]  # fmt: skip
        mine = [pid for pid in frozen if _descends(pid, server.process.pid)]
        assert mine
        for pid in mine:
            os.kill(pid, signal.SIGSTOP)
        try:
            with trio.fail_after(10), pytest.raises(TimedOut, match="does not answer"):
                await remote.stat("")
            assert (await remote.stat("")).kind is Kind.DIRECTORY  # on a new connection
        finally:
            for pid in mine:
                os.kill(pid, signal.SIGKILL)
            await remote.aclose()


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it has ended: it was of another test
            return False
    return False


async def test_something_else_than_ssh_is_named(servers: Servers) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 this is FTP\r\n" * 2000)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, talk, listeners)
        remote = SftpRemote(parse({"host": "127.0.0.1", "port": str(port), "pass": "x", "ssh_config": "none"}))
        with trio.fail_after(20), pytest.raises(StorageError, match=f"127.0.0.1:{port}"):
            await remote.stat("")
        await remote.aclose()
        nursery.cancel_scope.cancel()


async def test_a_shell_that_talks_is_named(tmp_path: Path) -> None:
    """A .bashrc that prints something breaks SFTP: a famous trap."""
    with sshd(lines=["ForceCommand echo Welcome to the server, dear user; sleep 1"]) as server:
        remote = SftpRemote(parse(server.options | {"timeout": "5s"}), server.prefix)
        with trio.fail_after(20), pytest.raises((Unsupported, Unreachable), match=r"SFTP|connection"):
            await remote.stat("")
        await remote.aclose()


async def test_idle_connections_are_closed(by_password: Place) -> None:
    remote = SftpRemote(parse(by_password.options | {"idle_timeout": "200ms"}), by_password.root)
    await remote.stat("")
    with trio.fail_after(10):
        while remote._pool._links:  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.05)
    await remote.stat("")
    await remote.aclose()


# hashes, links, copies


async def test_hashes_by_the_servers_programs(at: Place) -> None:
    remote = at.open()
    await put(remote, "it's a $(name)", b"content")
    assert remote.caps.hashes == {"md5", "sha1", "sha256"}
    assert await remote.hash("it's a $(name)", "md5") == hashlib.md5(b"content").hexdigest()
    await remote.aclose()
    for options in ({"disable_hashcheck": "true"}, {"shell_type": "none"}, {"shell_type": "cmd"}):
        without = at.open(**options)
        await without.stat("")
        assert not without.caps.hashes
        await without.aclose()
    named = at.open(md5sum_command="sha1sum", sha1sum_command="none", sha256sum_command="sha256sum -b")
    await named.stat("")
    assert named.caps.hashes == {"md5", "sha256"}
    assert await named.hash("it's a $(name)", "md5") == hashlib.sha1(b"content").hexdigest()
    await named.aclose()


async def test_a_confined_session_has_no_hashes(servers: Servers, tmp_path: Path) -> None:
    """Where SFTP stands elsewhere than the shell, the same path may be another file."""
    for name in ("sshd-no-shell", "asyncssh", "proftpd-sftp", "rclone-sftp"):
        remote = fresh(name, servers, tmp_path).open()
        await remote.stat("")
        assert not remote.caps.hashes
        await remote.aclose()


async def test_path_override(at: Place, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"elsewhere")
    remote = at.open(path_override=str(tmp_path), shell_type="unix")
    await put(remote, "f", b"here")
    assert await remote.hash("f", "md5") == hashlib.md5(b"elsewhere").hexdigest()
    await remote.aclose()


async def test_symbolic_links(at: Place) -> None:
    remote = at.open()
    await put(remote, "f", b"x")
    made = await remote.symlink("l", "f")
    assert (made.kind, made.target) == (Kind.SYMLINK, "f")
    assert (await entries(remote))["l"].target == "f"
    assert await fetch(remote, "l") == b"x"
    await remote.remove("l")
    assert sorted(await entries(remote)) == ["f"]
    await remote.symlink("broken", "nowhere")
    assert (await entries(remote))["broken"].target == "nowhere"
    await remote.aclose()
    hiding = at.open(skip_links="true")
    assert sorted(await entries(hiding)) == ["f"]
    assert not hiding.caps.symlinks
    await hiding.aclose()


async def test_special_files_are_not_shown(at: Place) -> None:
    assert at.disk is not None
    os.mkfifo(at.disk / "pipe")
    at.make("f", b"x")
    remote = at.open()
    assert sorted(await entries(remote)) == ["f"]
    await remote.aclose()


async def test_modes_are_the_servers_own(at: Place) -> None:
    remote = at.open()
    await put(remote, "f", b"x")
    assert (await remote.set_mode("f", 0o640)).mode == 0o640
    await put(remote, "f", b"replaced")
    assert (await remote.stat("f")).mode == 0o640, "a new content keeps the permissions"
    await remote.aclose()


async def test_owners_when_asked(at: Place) -> None:
    shy = at.open()
    await put(shy, "f", b"x")
    assert (await shy.stat("f")).owner is None
    assert not shy.caps.owners
    await shy.aclose()
    remote = at.open(owners="true")
    assert (await remote.stat("f")).owner == (os.geteuid(), os.getegid())
    await remote.aclose()


async def test_times_can_be_left_alone(at: Place) -> None:
    remote = at.open(set_modtime="false")
    stored = await put(remote, "f", b"x", mtime_ns=10**18)
    assert stored.mtime_ns != 10**18
    assert not remote.caps.set_mtime
    with pytest.raises(Unsupported):
        await remote.set_mtime("f", 10**18)
    await remote.aclose()


@pytest.mark.parametrize(
    "options",
    [{"chunk_size": "4Ki"}, {"concurrency": "1"}, {"disable_concurrent_reads": "true"}, {"connections": "1"},
     {"disable_concurrent_writes": "true"}, {"sync": "false"}, {"set_env": "LANG=C A=b"}],
)  # fmt: skip
async def test_ways_to_transfer(at: Place, options: dict[str, str]) -> None:
    await used(at.open(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"chunk_size": "1Mi"}, "chunk_size is from 1Ki to 255Ki"), ({"concurrency": "x"}, "concurrency is a whole"),
     ({"port": "0"}, "port is a whole number"), ({"timeout": "0"}, "timeout must be more than 0"),
     ({"strict_host_key_checking": "maybe"}, "is one of 'yes', 'accept-new', 'no'"), ({"sync": "?"}, "sync is true"),
     ({"set_env": "x"}, "set_env is NAME=value"), ({"host": "h:1"}, "the port is an option"),
     ({"shell_type": "csh"}, "shell_type is unix"),
     ({"ssh": "ssh host"}, "portside speaks SSH itself"), ({"socks_proxy": "h:1"}, "ProxyCommand"),
     ({"copy_is_hardlink": "true"}, "hard links are made"), ({"ask_password": "true"}, "needs a terminal"),
     ({"pubkey_file": "/etc/hostname"}, "pubkey_file is a certificate")],
)  # fmt: skip
async def test_bad_options_are_refused_by_name(options: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        open_remote("sftp", {"host": "h", "ssh_config": "none"} | options, "")


async def test_an_option_that_cannot_be_honoured_is_not_passed_over(tmp_path: Path) -> None:
    """Also in rclone's file, whose unknown options otherwise have no effect."""
    file = tmp_path / "rclone.conf"
    file.write_text("[box]\ntype = sftp\nhost = h\nssh = ssh -J other h\nunheard_of = 1\n")
    with pytest.raises(Refused, match=r"rclone.conf:1: .*'ssh': portside speaks SSH itself"):
        Config(None, {"RCLONE_CONFIG": str(file), "HOME": str(tmp_path)}).open("box:")


async def test_an_upload_is_synced_unless_told_otherwise(at: Place) -> None:
    """Seen from the server's system calls."""
    with sshd() as server:
        for sync, calls in (("true", 1), ("false", 0)):
            remote = open_remote("sftp", server.options | {"sync": sync, "connections": "1"}, server.prefix)
            await remote.stat("")
            pids = subprocess.run(["pgrep", "-f", "sftp-server"], capture_output=True).stdout.split()
            (pid,) = [int(pid) for pid in pids if _descends(int(pid), server.process.pid)]
            trace = server.scratch / f"trace-{sync}"
            tracer = subprocess.Popen(
                ["strace", "-qq", "-e", "trace=fsync", "-o", trace, "-p", str(pid)], stderr=subprocess.DEVNULL
            )
            with trio.fail_after(10):
                while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await put(remote, "f", b"x")
            tracer.terminate()
            tracer.wait()
            assert trace.read_text().count("fsync(") == calls
            await remote.aclose()
