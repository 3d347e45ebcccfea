"""`portside copy` beside `rclone copy`: many small files to an FTP server and back. Believe the ratios only.

    python -m benchmarks.copy [--files 2000] [--size 2000] [--rounds 3] [--server pyftpdlib]

Both run as whole processes, in turn, with --transfers and --checkers equal; what they stored is compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mountcore.remotes.obscure import obscure
from tests.servers import SERVERS, FtpServer

ROOT = Path(__file__).resolve().parent.parent


def make(folder: Path, files: int, size: int) -> None:
    for number in range(files):
        path = folder / f"d{number % 20:02}" / f"f{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def digest(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commands(server: FtpServer, config: Path) -> dict[str, list[str]]:
    config.write_text(
        f"[box]\ntype = ftp\nhost = {server.host}\nport = {server.port}\nuser = {server.user}\n"
        f"pass = {obscure(server.password)}\n"
    )
    config.chmod(0o600)
    return {
        "rclone": ["rclone", "--config", str(config)],
        "portside": [sys.executable, "-m", "mountcore.cli"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transfers", type=int, default=4)
    parser.add_argument("--server", choices=sorted(SERVERS), default="vsftpd")
    args = parser.parse_args()
    took: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch, SERVERS[args.server]() as server:
        place = Path(scratch)
        make(place / "src", args.files, args.size)
        wanted = digest(place / "src")
        environ = os.environ | {"PORTSIDE_CONFIG": str(place / "conf"), "PYTHONPATH": str(ROOT)}
        for number in range(args.rounds):
            for who, command in commands(server, place / "conf").items():
                there, back = f"{who}{number}", place / f"{who}{number}"
                for what, words in {
                    "up": ["copy", str(place / "src"), f"box:{there}"],
                    "again": ["copy", str(place / "src"), f"box:{there}"],
                    "down": ["copy", f"box:{there}", str(back)],
                }.items():
                    began = time.monotonic()
                    subprocess.run([*command, *words, "--transfers", str(args.transfers)], check=True, env=environ)
                    took.setdefault((what, who), []).append(time.monotonic() - began)
                assert digest(back) == wanted, f"{who} brought back something else"
                shutil.rmtree(back)
                shutil.rmtree(server.root / there)
    for what in ("up", "again", "down"):
        ours, theirs = (statistics.median(took[what, who]) for who in ("portside", "rclone"))
        print(f"{what:6} rclone {theirs:6.2f} s   portside {ours:6.2f} s   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
