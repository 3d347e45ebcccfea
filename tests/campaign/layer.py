"""The fault layer between the gateway and its disk: ``shim.c``, compiled, and what it is told."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from .ground import Ground

SOURCE = Path(__file__).with_name("shim.c")


@final
class Layer:
    """What the shim does to one ground's cache."""

    def __init__(self, ground: Ground) -> None:
        self.cache = ground.home / "cache"
        self.orders = ground.home / "orders"
        self.shadow = ground.home / "shadow"
        self.boot_id = ground.home / "boot_id"
        library = ground.home / "shim.so"
        self.orders.mkdir()
        self.shadow.mkdir()
        self.reboot()
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
        self.environ = {
            "LD_PRELOAD": str(library),
            "SHIM_ROOT": str(self.cache),
            "SHIM_ORDERS": str(self.orders),
            "SHIM_SHADOW": str(self.shadow),
            "SHIM_BOOT_ID": str(self.boot_id),
        }

    def reboot(self) -> None:
        """From now on the kernel is another one."""
        self.boot_id.write_text(secrets.token_hex(16))

    def settled(self) -> None:
        """The process has ended and time has passed: all that it left is on the disk."""
        shutil.rmtree(self.shadow)
        if self.cache.exists():
            shutil.copytree(self.cache, self.shadow)
        else:
            self.shadow.mkdir()

    @contextmanager
    def order(self, what: str) -> Iterator[None]:
        """``eio``: data files cannot be read; ``enospc``: they cannot be written."""
        order = self.orders / what
        order.touch()
        try:
            yield
        finally:
            order.unlink()

    def happened(self, what: str) -> int:
        """How often."""
        mark = self.orders / f"{what}-happened"
        return mark.stat().st_size if mark.exists() else 0
