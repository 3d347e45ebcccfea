"""Where the keys come from: the options, the environment, a profile, this container or machine.

In the order of the AWS tools (and rclone with ``env_auth``): ``AWS_ACCESS_KEY_ID`` …, a web identity
(``AWS_WEB_IDENTITY_TOKEN_FILE``), ``~/.aws/credentials`` and ``config``, the container's address, the instance
metadata service (IMDSv2). What expires is asked for again five minutes before.
"""

from __future__ import annotations

import configparser
import json
import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import final
from urllib.parse import urlencode, urlsplit

import trio

from ....errors import Denied, StorageError
from ..http import Held, Http, Origin
from .options import S3Options
from .sigv4 import Keys

EARLY = 300.0
_METADATA_WITHIN = 5.0


@final
class Credentials:
    """The keys of a remote, as they are now; None is to ask without a signature."""

    def __init__(self, options: S3Options, http: Http, environ: Mapping[str, str] | None = None) -> None:
        self._options = options
        self._http = http
        self._environ = os.environ if environ is None else environ
        self._keys: Keys | None = options.keys
        self._lock = trio.Lock()

    async def current(self) -> Keys | None:
        """The keys; a checkpoint only if they must be fetched. ``Denied`` says where they were looked for."""
        if not self._options.env_auth or self._fresh():
            return self._keys
        async with self._lock:
            if not self._fresh():
                self._keys = await self._find()
        return self._keys

    def _fresh(self) -> bool:
        keys = self._keys
        return keys is not None and (keys.expires_at is None or keys.expires_at - EARLY > time.time())

    async def _find(self) -> Keys:
        env = self._environ
        if not self._options.profile and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
            return Keys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN", ""))
        if not self._options.profile and env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN"):
            return await self._web_identity()
        if (keys := self._from_profile()) is not None:
            return keys
        reasons = ["the environment (AWS_ACCESS_KEY_ID)", f"profile {self._profile!r} of {self._file('credentials')}"]
        if self._options.profile:
            raise Denied("", f"no keys in {reasons[1]}; add them, or set profile to another")
        try:
            uri = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
            if relative := env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", ""):
                uri = f"http://169.254.170.2{relative}"
            if uri:
                reasons.append("the container's credentials address")
                return await self._container(uri)
            if env.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
                reasons.append("the instance metadata service")
                return await self._instance()
        except (StorageError, KeyError, ValueError, trio.TooSlowError) as problem:
            reasons[-1] += f" ({problem.said if isinstance(problem, StorageError) else 'no answer'})"
        raise Denied("", f"env_auth found no keys in {', '.join(reasons)}; set access_key_id and secret_access_key")

    @property
    def _profile(self) -> str:
        return self._options.profile or self._environ.get("AWS_PROFILE", "") or "default"

    def _file(self, kind: str) -> Path:
        named = self._options.shared_credentials_file if kind == "credentials" else ""
        variable = {"credentials": "AWS_SHARED_CREDENTIALS_FILE", "config": "AWS_CONFIG_FILE"}[kind]
        return Path(named or self._environ.get(variable, "") or f"~/.aws/{kind}").expanduser()

    def _from_profile(self) -> Keys | None:
        for kind, sections in (
            ("credentials", (self._profile,)),
            ("config", (f"profile {self._profile}", self._profile)),
        ):
            parser = configparser.RawConfigParser()
            try:
                parser.read(self._file(kind), encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError) as problem:
                raise Denied("", f"cannot read {self._file(kind)}: {str(problem).splitlines()[0]}") from problem
            for name in sections:
                if parser.has_section(name):
                    values = dict(parser[name])
                    if values.get("aws_access_key_id") and values.get("aws_secret_access_key"):
                        token = values.get("aws_session_token", "")
                        return Keys(values["aws_access_key_id"], values["aws_secret_access_key"], token)
        return None

    async def _instance(self) -> Keys:
        address = self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "") or "http://169.254.169.254"
        with trio.fail_after(_METADATA_WITHIN):
            token = await self._ask(
                "PUT", f"{address}/latest/api/token", [("X-aws-ec2-metadata-token-ttl-seconds", "21600")]
            )
            headers = [("X-aws-ec2-metadata-token", token.decode())]
            base = f"{address}/latest/meta-data/iam/security-credentials/"
            role = (await self._ask("GET", base, headers)).decode().splitlines()[0].strip()
            return _from_json(await self._ask("GET", base + role, headers))

    async def _container(self, uri: str) -> Keys:
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if path := self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ""):
            token = await trio.Path(path).read_text()
        with trio.fail_after(_METADATA_WITHIN):
            return _from_json(await self._ask("GET", uri, [("Authorization", token.strip())] if token else []))

    async def _web_identity(self) -> Keys:
        token = await trio.Path(self._environ["AWS_WEB_IDENTITY_TOKEN_FILE"]).read_text()
        region = self._environ.get("AWS_REGION", "") or self._options.region
        query = urlencode({
            "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": self._environ["AWS_ROLE_ARN"],
            "RoleSessionName": self._environ.get("AWS_ROLE_SESSION_NAME", "portside"),
            "WebIdentityToken": token.strip(),
        })  # fmt: skip
        sts = self._environ.get("AWS_ENDPOINT_URL_STS", "") or f"https://sts.{region}.amazonaws.com"
        answer = await self._ask(
            "POST", f"{sts}/", [("Content-Type", "application/x-www-form-urlencoded")], query.encode()
        )
        try:
            found = {e.tag.rpartition("}")[2]: e.text or "" for e in ET.fromstring(answer).iter()}  # noqa: S314
            return Keys(
                found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], _moment(found["Expiration"])
            )
        except (ET.ParseError, KeyError, ValueError) as problem:
            raise Denied("", "the security token service gave no keys for AWS_WEB_IDENTITY_TOKEN_FILE") from problem

    async def _ask(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes | None = None) -> bytes:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        origin = Origin(parts.scheme, parts.hostname or "", port)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        async with self._http.request(method, origin, target, headers, None if body is None else Held(body)) as answer:
            if answer.status != 200:
                raise Denied("", f"{origin} answered {answer.status}")
            return await answer.content()


def _from_json(text: bytes) -> Keys:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return Keys(found["AccessKeyId"], found["SecretAccessKey"], found.get("Token", ""), _moment(found["Expiration"]))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
