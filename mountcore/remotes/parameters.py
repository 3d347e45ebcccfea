"""What stands behind the ``?`` of a URL, as options of a storage type. Pure; used by :mod:`.address`.

A parameter is an option of the storage type, with dashes or underscores (``?idle-timeout=5m``), or one of the names
that other programs gave it: those of Duplicati's FTP destinations and of Lektor's deploy targets stand in one table
here. Names are the same in any case of letters; a parameter without a value means ``true``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from ..errors import Refused

_YES = ("true", "yes", "on", "1")
_NO = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter means: an ``option``, and what its words become there."""

    option: str
    words: Mapping[str, str] | None = None
    """Word in lower case → option value; None: values stand as they are."""
    otherwise: str | None = None
    """For a word that is not among them; None: it is refused."""

    def value(self, name: str, text: str) -> str:
        """The option's value; raises :class:`Refused`, without showing the text, which may be a secret."""
        if self.words is None:
            return text
        found = self.words.get(text.strip().lower(), self.otherwise)
        if found is None:
            raise Refused(f"the URL's parameter {name!r} is one of {', '.join(self.words)}")
        return found


def _flag(option: str, yes: str, no: str) -> Parameter:
    return Parameter(option, dict.fromkeys(_YES, yes) | dict.fromkeys(_NO, no))


_DUPLICATI: Mapping[str, Parameter] = {
    "auth-username": Parameter("user"),
    "auth-password": Parameter("pass"),
    "accept-any-ssl-certificate": Parameter("no_check_certificate"),
    "accept-specified-ssl-hash": Parameter("certificate_hash"),
    "disable-upload-verify": Parameter("no_check_upload"),
    "short-timeout": Parameter("connect_timeout"),
    "read-write-timeout": Parameter("timeout"),
    "ftp-data-connection-type": Parameter("data_connection"),
    "ftp-encryption-mode": Parameter("encryption"),
    "ftp-ssl-protocols": Parameter("tls_versions"),
    "ftp-absolute-path": Parameter("absolute_path"),
    "ftp-use-cwd-names": Parameter("cwd_names"),
    "ftp-upload-delay": Parameter("upload_delay"),
    "ftp-log-to-console": Parameter("log_to_console"),
    "ftp-log-privateinfo-to-console": Parameter("log_private_info"),
}
"""Duplicati's names of the options of its ``ftp://`` destinations."""

_DUPLICATI_OLD: Mapping[str, Parameter] = {
    "ftp-passive": _flag("data_connection", "auto_passive", "auto_active"),
    "ftp-regular": _flag("data_connection", "auto_active", "auto_passive"),
    "use-ssl": _flag("encryption", "explicit", "none"),
}
"""What it has given up for the names above; it never had them in ``aftp://``."""

_ALTERNATIVE: Mapping[str, Parameter] = {
    name.replace("ftp-", "aftp-", 1) if name.startswith("ftp-") else name: parameter
    for name, parameter in _DUPLICATI.items()
    if name != "ftp-absolute-path"
} | {"aftp-relative-path": _flag("absolute_path", "false", "true")}  # fmt: skip

#: Lektor: on, yes, true and 1 mean passive, and whatever else is said means active
_LEKTOR: Mapping[str, Parameter] = {
    "passive": Parameter("data_connection", dict.fromkeys(_YES, "auto_passive"), "auto_active"),
}

_FTP = {**_DUPLICATI, **_DUPLICATI_OLD, **_LEKTOR}
PARAMETERS: dict[str, Mapping[str, Parameter]] = {
    "ftp": _FTP, "ftps": _FTP, "ftpes": _FTP, "aftp": {**_ALTERNATIVE, **_LEKTOR},
}  # fmt: skip
"""URL scheme → other programs' parameter names."""


def parse_query(scheme: str, text: str) -> dict[str, str]:
    """From ``name=value&flag`` the options; raises :class:`Refused` for one that is said twice, differently."""
    table = PARAMETERS.get(scheme, {})
    options: dict[str, str] = {}
    names: dict[str, str] = {}
    for part in text.split("&"):
        written, equals, raw = part.partition("=")
        name = unquote(written).strip().lower()
        if not name:
            continue
        value = unquote(raw.replace("+", "%20"), errors="surrogateescape") if equals else "true"
        if any(c in value for c in "\r\n\0"):
            raise Refused(f"the URL's parameter {name!r} has a line break or NUL in it")
        parameter = table.get(name) or Parameter(name.replace("-", "_"))
        value = parameter.value(name, value)
        if options.get(parameter.option, value) != value:
            other = names[parameter.option]
            raise Refused(f"the URL's parameters {other!r} and {name!r} contradict each other; leave one out")
        options[parameter.option], names[parameter.option] = value, name
    return options
