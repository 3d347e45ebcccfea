"""Bad input: each one line that names the thing and the remedy, an exit code, nothing left mounted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from .conftest import FtpStorage, Portside, free_port

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to take rights away")


def test_unknown_remote(portside: Portside, mountpoint: Path) -> None:
    portside.configure("[photos]\ntype = local\n")
    text = portside.refusal("mount", "fotos:", mountpoint)
    assert "'fotos'" in text
    assert "did you mean 'photos:'?" in text


def test_unreachable_host(portside: Portside, mountpoint: Path) -> None:
    port = free_port()
    text = portside.refusal("mount", f"ftp://me@127.0.0.1:{port}/", mountpoint, code=5)
    assert f"127.0.0.1:{port}" in text
    assert "refused" in text.lower()


def test_host_that_does_not_exist(portside: Portside, mountpoint: Path) -> None:
    assert "no-such-host.invalid" in portside.refusal("mount", "ftp://me@no-such-host.invalid/", mountpoint)


def test_wrong_password(portside: Portside, mountpoint: Path, storage: FtpStorage) -> None:
    portside.configure(storage.section("box", password="wrong one"))
    text = portside.refusal("mount", "box:", mountpoint, code=7)
    assert "wrong one" not in text
    assert "login" in text.lower() or "password" in text.lower() or "denied" in text.lower()


def test_directory_that_the_remote_does_not_have(portside: Portside, mountpoint: Path, storage: FtpStorage) -> None:
    portside.configure(storage.section("box"))
    portside.refusal("mount", "box:not/there", mountpoint, code=3)


def test_local_folder_that_does_not_exist(portside: Portside, mountpoint: Path, tmp_path: Path) -> None:
    assert "no such file" in portside.refusal("mount", tmp_path / "nowhere", mountpoint, code=3).lower()


def test_mount_point_missing(portside: Portside, mountpoint: Path) -> None:
    missing = mountpoint / "sub"
    text = portside.refusal("mount", ":memory:", missing)
    assert str(missing) in text
    assert "mkdir" in text


def test_mount_point_is_a_file(portside: Portside, mountpoint: Path) -> None:
    file = mountpoint / "file"
    file.touch()
    assert str(file) in portside.refusal("mount", ":memory:", file)


def test_mount_point_not_empty(portside: Portside, mountpoint: Path) -> None:
    (mountpoint / "something").touch()
    text = portside.refusal("mount", ":memory:", mountpoint)
    assert "not empty" in text
    assert "allow-non-empty" in text


def test_already_mounted(portside: Portside, mountpoint: Path) -> None:
    first = portside.mount(":memory:", mountpoint)
    text = portside.refusal("mount", ":memory:", mountpoint)
    assert str(mountpoint) in text
    assert "already" in text
    assert first.process.poll() is None
    assert portside.run("umount", mountpoint).returncode == 0, "the refused one left the first one's control socket"


OWN_DEV = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
UNSHARES = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0, reason="in a chroot"
)


@ROOT_ONLY
@UNSHARES
def test_no_dev_fuse(portside: Portside, mountpoint: Path) -> None:
    hide = f'{OWN_DEV} && exec "$@"'
    text = portside.refusal("mount", ":memory:", mountpoint, prefix=("unshare", "-m", "sh", "-c", hide, "-"))
    assert "/dev/fuse" in text
    assert "modprobe fuse" in text


@ROOT_ONLY
@UNSHARES
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="not installed: setpriv")
def test_dev_fuse_that_may_not_be_opened(portside: Portside, mountpoint: Path) -> None:
    close = f'{OWN_DEV} && mknod -m 0 /dev/fuse c 10 229 && exec setpriv --bounding-set=-dac_override "$@"'
    text = portside.refusal("mount", ":memory:", mountpoint, prefix=("unshare", "-m", "sh", "-c", close, "-"))
    assert "chmod 666 /dev/fuse" in text


def test_session_whose_library_is_not_there(portside: Portside, mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "pyfuse3.py").write_text("raise ModuleNotFoundError(name='pyfuse3')\n")
    without = ("env", f"PYTHONPATH={tmp_path}")
    text = portside.refusal("mount", ":memory:", mountpoint, "--fuse-session", "pyfuse3", prefix=without)
    assert "--fuse-session pyfuse3 needs" in text
    assert "pip install 'portside[fuse]'" in text


@ROOT_ONLY
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="not installed: setpriv")
def test_no_permission_to_mount(portside: Portside, mountpoint: Path) -> None:
    text = portside.refusal("mount", ":memory:", mountpoint, prefix=("setpriv", "--bounding-set=-sys_admin"))
    assert "permi" in text.lower()


def test_port_in_use(portside: Portside) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = portside.refusal("serve", "ftp", ":memory:", "--addr", f"127.0.0.1:{port}")
    assert str(port) in text
    assert "listens" in text


def test_malformed_config(portside: Portside, mountpoint: Path) -> None:
    portside.configure("[box]\ntype = local\nnonsense\n")
    assert f"{portside.config}:3: " in portside.refusal("mount", "box:", mountpoint)


def test_config_file_that_is_not_there(portside: Portside, mountpoint: Path) -> None:
    assert "none.conf" in portside.refusal("mount", "box:", mountpoint, "--config", "none.conf")


@pytest.mark.parametrize("remote", ["box:", ":memory:"])
def test_cache_directory_that_cannot_be_made(portside: Portside, mountpoint: Path, remote: str, tmp_path: Path) -> None:
    portside.configure("[box]\ntype = memory\n")
    (tmp_path / "file").touch()
    text = portside.refusal("mount", remote, mountpoint, "--cache-dir", tmp_path / "file" / "cache")
    assert str(tmp_path / "file" / "cache") in text
    assert "--cache-dir" in text


@ROOT_ONLY
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="not installed: setpriv")
def test_cache_directory_that_is_not_writable(portside: Portside, tmp_path: Path) -> None:
    cache = tmp_path / "locked"
    cache.mkdir(mode=0o500)
    cache.chmod(0o500)
    weak = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    text = portside.refusal("serve", "ftp", tmp_path, "--addr", "127.0.0.1:0", "--cache-dir", cache, prefix=weak)
    assert str(cache) in text
    assert "--cache-dir" in text


def test_cache_directory_of_another_process(portside: Portside, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    first = portside.start("serve", "ftp", folder, "--addr", "127.0.0.1:0")
    first.wait_until_says(r"serving .* at 127\.0\.0\.1:\d+")
    text = portside.refusal("serve", "ftp", folder, "--addr", "127.0.0.1:0")
    assert str(first.process.pid) in text
    assert "cache" in text


@pytest.mark.parametrize(
    ("argv", "mentions"),
    [
        (["mount", ":memory:", ".", "--vfs-cach-mode", "full"], "--vfs-cache-mode"),
        (["mount", ":memory:", ".", "--vfs-cache-mode", "ful"], "off, minimal, writes, full"),
        (["mount", ":memory:", ".", "--vfs-write-back", "soon"], "a duration like"),
        (["mount", ":memory:", ".", "--buffer-size", "lots"], "a size like"),
        (["mount", ":memory:", ".", "--log-level", "loud"], "--log-level"),
        (["mount", ":memory:", ".", "another"], "another"),
        (["mount", ":memory:"], "MOUNTPOINT"),
        (["mount"], "REMOTE:PATH"),
        (["mount", ":ftpp,host=x:", "."], "did you mean 'ftp'?"),
        (["mount", ":ftp,hots=x:", "."], "did you mean 'host'?"),
        (["mount", ":ftp:", "."], "'host'"),
        (["mount", "gopher://x/", "."], "gopher"),
        (["serve", "ftp"], "name a remote"),
        (["serve", "ftp", ":memory:", "--addr", "nonsense:port:x"], "--addr"),
        (["serve", "sftp", ":memory:"], "ftp"),
        (["moutn"], "did you mean 'mount'?"),
        (["status", "/proc"], "/proc"),
        (["umount", "/proc"], "not portside's"),
        (["umount", "/no/such/place"], "nothing is mounted"),
        (["gateway", "no.toml"], "no.toml"),
    ],
)
def test_wrong_words(portside: Portside, argv: list[str], mentions: str) -> None:
    assert mentions in portside.refusal(*argv)


def test_environment_is_named_where_its_value_is_wrong(portside: Portside, mountpoint: Path) -> None:
    portside.environ["PORTSIDE_VFS_WRITE_BACK"] = "soon"
    assert "--vfs-write-back" in portside.refusal("mount", ":memory:", mountpoint)


@pytest.mark.parametrize(
    ("text", "place", "mentions"),
    [
        ("[[mount]\nremote = 'x'\n", ":1:", ""),
        ("[[mount]]\nremote = ':memory:'\n", ":1:", "mountpoint"),
        ("[vfs]\n\n[[ftp]]\naddr = ':0'\n", ":3:", "remote"),
        ("[[mount]]\nremote = ':memory:'\nmountpoint = 'a'\nvfs_cach_mode = 'full'\n", ":4:", "vfs-cache-mode"),
        ("[[mount]]\nremote = ':memory:'\nmountpoint = 'a'\nvfs-write-back = [1]\n", ":4:", "vfs-write-back"),
        ("[[mount]]\nremote = 'nope:'\nmountpoint = 'a'\n", ":2:", "'nope'"),
        ("[vfs]\nvfs-write-back = 'soon'\n[[ftp]]\nremote=':memory:'\n", "", "a duration like"),
        ("[vfs]\ntransfers = 2\naddr = ':0'\n", ":3:", "'addr'"),
        ("[mounts]\n", ":1:", "[[mount]]"),
        ("[mount]\nremote = ':memory:'\n", ":1:", "[[mount]]"),
        ("", "", "nothing to do"),
        (
            "[[mount]]\nremote='.'\nmountpoint='a'\n[[mount]]\nremote='.'\nmountpoint='b'\nread-only=true\n",
            ":4:",
            "read_only",
        ),
        ("[[mount]]\nremote='.'\nmountpoint='a'\n[[mount]]\nremote='.'\nmountpoint='a'\n", ":4:", "already"),
    ],
)
def test_gateway_file(portside: Portside, tmp_path: Path, text: str, place: str, mentions: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    said = portside.refusal("gateway", file)
    assert f"{file}{place}" in said
    assert mentions in said


def test_obscure_of_nothing(portside: Portside) -> None:
    assert "empty" in portside.refusal("obscure")
