"""A server behind a router that translates addresses: three network namespaces, joined by two cables."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import eventually

PUBLIC, INSIDE, CLIENT = "198.51.100.1", "10.213.0.2", "198.51.100.2"
PORT, PASSIVE = 2121, "41000-41003"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root; scripts/test as root runs this"),
    pytest.mark.skipif(not shutil.which("iptables"), reason="not installed: iptables"),
    pytest.mark.skipif(not shutil.which("ip"), reason="not installed: iproute2"),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@pytest.fixture
def behind() -> Iterator[tuple[str, str]]:
    """Names of the server's and the client's namespace; between them a third one translates."""
    mark = f"ps{os.getpid() % 100_000}"
    server, router, client = f"{mark}s", f"{mark}r", f"{mark}c"
    with contextlib.ExitStack() as stack:
        for name in (server, router, client):
            try:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
                ip("netns", "exec", name, "true")  # fails in a chroot, whose root is no mount
            except subprocess.CalledProcessError as problem:
                pytest.skip(f"no network namespaces here: {problem.stderr}")
            ip("-n", name, "link", "set", "lo", "up")
        for end, other, near, far in (
            (server, router, f"{INSIDE}/24", "10.213.0.1/24"), (client, router, f"{CLIENT}/24", f"{PUBLIC}/24"),
        ):  # fmt: skip
            cable = end[-1]
            ip("-n", end, "link", "add", "eth0", "type", "veth", "peer", "name", f"to-{cable}", "netns", other)
            ip("-n", end, "addr", "add", near, "dev", "eth0")
            ip("-n", other, "addr", "add", far, "dev", f"to-{cable}")
            ip("-n", end, "link", "set", "eth0", "up")
            ip("-n", other, "link", "set", f"to-{cable}", "up")
        ip("-n", server, "route", "add", "default", "via", "10.213.0.1")
        inside = ("netns", "exec", router)
        ip(*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for ports in (str(PORT), PASSIVE.replace("-", ":")):
            try:
                ip(*inside, "iptables", "-t", "nat", "-A", "PREROUTING", "-d", PUBLIC, "-p", "tcp", "--dport", ports,
                   "-j", "DNAT", "--to-destination", INSIDE)  # fmt: skip
            except subprocess.CalledProcessError as problem:
                pytest.skip(f"no translation of addresses here: {problem.stderr}")
        yield server, client


@contextlib.contextmanager
def serving_in(namespace: str, root: Path, cache: Path, *options: str) -> Iterator[None]:
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-m", "mountcore.cli", "serve", "ftp", str(root),
         "--addr", f"{INSIDE}:{PORT}", "--passive-port", PASSIVE, "--cache-dir", str(cache), "--user", "me", *options],
        env={**os.environ, "PORTSIDE_PASS": "secret"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        probe = ["ip", "netns", "exec", namespace, "curl", "-s", "-m", "5", f"ftp://me:secret@{INSIDE}:{PORT}/"]
        eventually(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, 30)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def curl(namespace: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ip", "netns", "exec", namespace, "curl", "-sS", "-m", "15", "--connect-timeout", "3", "-u", "me:secret",
         *words],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip


def test_with_public_ip_passive_connections_pass_the_router(behind: tuple[str, str], tmp_path: Path) -> None:
    server, client = behind
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").write_bytes(b"x" * 100_000)
    url = f"ftp://{PUBLIC}:{PORT}/f"
    pasv = ["--disable-epsv", "--no-ftp-skip-pasv-ip"]
    public = f"10.0.0.0/8={INSIDE},{PUBLIC}"
    with serving_in(server, tmp_path / "root", tmp_path / "cache", "--public-ip", public):
        for way in (pasv, ["--ftp-pasv"]):  # PASV, which names an address, and EPSV, which does not
            done = curl(client, *way, url)
            assert done.returncode == 0, done.stderr
            assert len(done.stdout) == 100_000
        up = curl(client, *pasv, "-T", str(tmp_path / "root" / "f"), f"ftp://{PUBLIC}:{PORT}/up")
        assert up.returncode == 0, up.stderr
        assert curl(server, *pasv, f"ftp://{INSIDE}:{PORT}/up").stdout == b"x" * 100_000, "who is inside is told so"


def test_without_it_the_client_is_sent_to_an_address_that_it_cannot_reach(
    behind: tuple[str, str], tmp_path: Path
) -> None:
    server, client = behind
    (tmp_path / "root").mkdir()
    with serving_in(server, tmp_path / "root", tmp_path / "cache"):
        done = curl(client, "--disable-epsv", "--no-ftp-skip-pasv-ip", f"ftp://{PUBLIC}:{PORT}/")
        assert done.returncode != 0
