"""Which FTP commands there are: syntax, whether a login is needed, help text. Pure.

In the form that pyftpdlib keeps them: ``arg`` is True for needed, False for none, None for either; ``perm``
is left to the commands themselves, which know the path.
"""

from __future__ import annotations

from typing import TypedDict


class Facts(TypedDict):
    """One command."""

    perm: None
    auth: bool
    arg: bool | None
    help: str


def _command(name: str, syntax: str, what: str, *, auth: bool = True) -> tuple[str, Facts]:
    needed = None if syntax.startswith("[") else bool(syntax)
    words = f"{name} <SP> {syntax}" if needed else f"{name} [<SP> {syntax[1:]}" if syntax else name
    return name, Facts(perm=None, auth=auth, arg=needed, help=f"Syntax: {words} ({what}).")


COMMANDS: dict[str, Facts] = dict(
    (
        _command("ABOR", "", "abort transfer"),
        _command("ACCT", "account", "ignored", auth=False),
        _command("ALLO", "bytes", "announce the size of an upload"),
        _command("APPE", "file-name", "append data to file"),
        _command("AUTH", "TLS|SSL", "encrypt the control connection", auth=False),
        _command("AVBL", "[path]", "free space in bytes"),
        _command("CCC", "", "refused", auth=False),
        _command("CDUP", "", "go to parent directory"),
        _command("CLNT", "name", "client tells its name", auth=False),
        _command("CSID", "facts", "exchange software names", auth=False),
        _command("CWD", "[dir-name]", "change working directory"),
        _command("DELE", "file-name", "delete file"),
        _command("EPRT", "|proto|ip|port|", "extended active mode"),
        _command("EPSV", '[proto/"ALL"]', "extended passive mode"),
        _command("FEAT", "", "list features", auth=False),
        _command("HASH", "file-name", "digest of a file, see OPTS HASH"),
        _command("HELP", "[cmd]", "show help", auth=False),
        _command("HOST", "name", "virtual host; any is accepted", auth=False),
        _command("LANG", "[tag]", "language of replies", auth=False),
        _command("LIST", "[options path]", "list files"),
        _command("MDTM", "file-name", "last modification time; with a time: set it"),
        _command("MFF", "facts path", "set Modify= and UNIX.mode="),
        _command("MFMT", "time path", "set last modification time"),
        _command("MKD", "path", "create directory"),
        _command("MLSD", "[path]", "list directory, for programs"),
        _command("MLST", "[path]", "show a file's facts, for programs"),
        _command("MODE", "S|Z", "transfer mode: stream, or compressed"),
        _command("NLST", "[options path]", "list names"),
        _command("NOOP", "", "do nothing", auth=False),
        _command("OPTS", "cmd option", "set option of a command", auth=False),
        _command("PASS", "[password]", "log in", auth=False),
        _command("PASV", "", "passive mode"),
        _command("PBSZ", "0", "protection buffer size", auth=False),
        _command("PORT", "h,h,h,h,p,p", "active mode"),
        _command("PROT", "C|P", "encrypt data connections", auth=False),
        _command("PWD", "", "show working directory"),
        _command("QUIT", "", "log out", auth=False),
        _command("REIN", "", "log out, stay connected"),
        _command("REST", "offset", "where the next transfer begins"),
        _command("RETR", "file-name", "retrieve a file"),
        _command("RMD", "dir-name", "remove directory"),
        _command("RNFR", "file-name", "rename: from"),
        _command("RNTO", "file-name", "rename: to"),
        _command("SITE", "site-command", "see SITE HELP", auth=False),
        _command("SITE CHMOD", "mode path", "set permission bits"),
        _command("SITE SYMLINK", "target link", "make a symbolic link; quote names with blanks"),
        _command("SITE HELP", "[cmd]", "show SITE commands", auth=False),
        _command("SITE UTIME", "YYYYMMDDhhmm[ss] path", "set last modification time; also path and 3 times"),
        _command("SIZE", "file-name", "size of a file in TYPE I"),
        _command("STAT", "[path]", "state of the session, or a listing", auth=False),
        _command("STOR", "file-name", "store a file"),
        _command("STOU", "[name]", "store a file under a unique name"),
        _command("STRU", "F", "file structure"),
        _command("SYST", "", "system type", auth=False),
        _command("TYPE", "A|I", "transfer type"),
        _command("USER", "user-name", "log in", auth=False),
        _command("XCRC", "file-name", "CRC-32 of a file"),
        _command("XCUP", "", "CDUP"),
        _command("XCWD", "[dir-name]", "CWD"),
        _command("XMD5", "file-name", "MD5 of a file"),
        _command("XMKD", "dir-name", "MKD"),
        _command("XPWD", "", "PWD"),
        _command("XRMD", "dir-name", "RMD"),
        _command("XSHA1", "file-name", "SHA-1 of a file"),
        _command("XSHA256", "file-name", "SHA-256 of a file"),
        _command("XSHA512", "file-name", "SHA-512 of a file"),
    )
)

TLS_COMMANDS = frozenset({"AUTH", "PBSZ", "PROT", "CCC"})
MEANWHILE = frozenset({"NOOP", "STAT"})
"""Answered while an upload is being stored."""
URGENT = frozenset({"ABOR", "STAT", "QUIT"})
"""Recognised behind telnet's synch sequence, whatever of it has arrived."""
SECRET = frozenset({"PASS", "ACCT"})
FOREIGN = frozenset({"GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT"})
"""HTTP's: a page that makes a browser talk to us."""

FACTS = ("type", "perm", "size", "modify", "unique", "UNIX.mode", "UNIX.uid", "UNIX.gid")
DEFAULT_FACTS = FACTS[:6]
