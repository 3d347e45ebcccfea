"""The command with a home of its own."""

from __future__ import annotations

from tests.cli.conftest import mountpoint, portside
from tests.files.conftest import here

__all__ = ["here", "mountpoint", "portside"]
