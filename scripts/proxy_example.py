#!/usr/bin/env python3
"""An auth proxy for ``portside serve ftp --auth-proxy "scripts/proxy_example.py USERS.json"``.

USERS.json maps user names to a salted hash of the password and the storage the user gets::

    {"alice": {"password": "scrypt$…", "storage": {"type": "local", "_root": "/srv/alice"}},
     "bob":   {"password": "scrypt$…", "storage": {"type": "ftp", "_root": "in", "host": "ftp.example.org",
               "user": "bob", "pass": "plain text", "_obscure": "pass", "_read_only": true}}}

``proxy_example.py --hash`` reads a password from standard input and prints what to put there. The program is
given ``{"user": …, "pass": …, "client_ip": …}`` and prints the storage, or ends with 1 and says why on
standard error. It also answers many questions, a line each, which is what ``--auth-proxy-mode stream`` needs.
It uses nothing but the standard library; rclone's ``--auth-proxy`` can use it as well, as long as all values
are strings.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys

NOBODY = "scrypt$" + "00" * 16 + "$" + "00" * 32
"""Compared with when there is no such user, so that it takes as long as a wrong password."""


def hashed(password: str, salt: bytes) -> str:
    digest = hashlib.scrypt(password.encode("utf-8", "surrogateescape"), salt=salt, n=2**14, r=8, p=1, dklen=32)
    return f"scrypt${salt.hex()}${digest.hex()}"


def matches(password: str, stored: str) -> bool:
    salt = bytes.fromhex(stored.split("$")[1])
    return hmac.compare_digest(hashed(password, salt), stored)


def answer(question: dict[str, str], path: str) -> dict[str, object]:
    with open(path, encoding="utf-8") as file:
        users = json.load(file)
    entry = users.get(question.get("user", ""))
    right = matches(question.get("pass", ""), entry["password"] if entry else NOBODY)
    if entry is None or not right:
        return {"error": "no such user, or wrong password"}
    storage: dict[str, object] = entry["storage"]
    return storage


def main(words: list[str]) -> int:
    if words == ["--hash"]:
        print(hashed(sys.stdin.readline().rstrip("\n"), os.urandom(16)))
        return 0
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    error = False
    for line in sys.stdin:
        said = answer(json.loads(line), words[0])
        error = "error" in said
        if error:
            print(said["error"], file=sys.stderr)
        print(json.dumps(said), flush=True)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
