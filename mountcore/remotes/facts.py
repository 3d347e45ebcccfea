"""The table of storage types. Each type's options live beside its adapter's documentation here."""

from __future__ import annotations

from .longtail import facts as longtail
from .objects import facts as objects
from .registry import RemoteOption, RemoteType

_FTP_OPTIONS = (
    RemoteOption("host", "Host name or address of the server", required=True, examples=("ftp.example.com",)),
    RemoteOption("port", "Port; 21, or 990 with encryption = implicit, if empty"),
    RemoteOption("user", "User name; the current user's if empty"),
    RemoteOption("pass", "Password", secret=True),
    RemoteOption("ask_password", "Ask for the password on the terminal if there is none", "false"),
    RemoteOption("tls", "Implicit TLS: encrypted from the first byte, usually on port 990", "false"),
    RemoteOption("explicit_tls", "Explicit TLS: AUTH TLS on the plain port; not together with tls", "false"),
    RemoteOption(
        "encryption",
        "none, implicit, explicit, or auto: explicit, and in the clear where the server refuses; "
        "empty: what tls and explicit_tls say",
    ),
    RemoteOption("clear_data", "With TLS, let files and listings pass in the clear (PROT C)", "false"),
    RemoteOption(
        "clear_commands", "With TLS, go on in the clear after the login (CCC), for firewalls that read along", "false"
    ),
    RemoteOption("no_check_certificate", "Accept any certificate of the server", "false"),
    RemoteOption(
        "certificate_hash",
        "Accept these certificates, of the server or of who signed it: SHA-256 or SHA-1 in "
        "hex, with commas between them",
        examples=("8F:43:28:8A:…",),
    ),
    RemoteOption("ca_cert", "File of certificates (PEM) to trust instead of the system's"),
    RemoteOption("client_cert", "File of the certificate (PEM) to show to the server"),
    RemoteOption("client_key", "File of the key (PEM) of client_cert, if it is not in the same file"),
    RemoteOption("tls_cache_size", "0: never resume TLS sessions; vsftpd and proftpd insist on it by default", "32"),
    RemoteOption("tls_versions", "The TLS versions to use, of tls10, tls11, tls12, tls13; empty or none: the system's"),
    RemoteOption("disable_tls13", "Use TLS 1.2 at most, for servers whose TLS 1.3 is broken", "false"),
    RemoteOption("allow_insecure_tls_ciphers", "Accept TLS_RSA_WITH_AES_128_GCM_SHA256 too", "false"),
    RemoteOption("concurrency", "Connections at once; 0: 8, or what the server allows if that is less", "0"),
    RemoteOption(
        "data_connection",
        "auto_passive (EPSV, else PASV), epsv, pasv (follows the address told if it is a public "
        "one), pasvex (never), pasvuse (always), auto_active (EPRT, else PORT), port, eprt",
        "auto_passive",
    ),
    RemoteOption("active", "Active mode: the server connects back; as data_connection = auto_active", "false"),
    RemoteOption("active_ports", "The ports to listen on in active mode, like 50000-50100; empty: any"),
    RemoteOption("disable_epsv", "Use PASV even if the server knows EPSV", "false"),
    RemoteOption("disable_mlsd", "Use LIST even if the server knows MLSD", "false"),
    RemoteOption("disable_utf8", "Do not switch the server to UTF-8", "false"),
    RemoteOption("charset", "How the server writes names, as Python calls it", "utf-8", examples=("cp1251", "latin-1")),
    RemoteOption("absolute_path", "Paths begin at the server's root, not where the login ends up", "false"),
    RemoteOption("cwd_names", "Change to a folder and give plain names, for servers that take no paths", "false"),
    RemoteOption("force_list_hidden", "Use LIST -a to see hidden files; implies disable_mlsd", "false"),
    RemoteOption("writing_mdtm", "Set times with MDTM instead of MFMT (vsftpd)", "false"),
    RemoteOption("no_check_upload", "Do not look whether an upload arrived; for write-only folders", "false"),
    RemoteOption(
        "temporary_name",
        "What a file is called while it is uploaded, like .{name}.tmp; empty: a name that no other upload has",
    ),
    RemoteOption("upload_delay", "Wait this long after an upload before looking whether it arrived", "0s"),
    RemoteOption("connect_timeout", "Give up connecting after this long", "1m"),
    RemoteOption("timeout", "Give up on a server that sends or takes nothing for this long", "1m"),
    RemoteOption("keep_alive", "Send NOOP this often during a long transfer; 0: never", "30s"),
    RemoteOption("idle_timeout", "Close a connection that is unused for this long; 0: never", "1m"),
    RemoteOption("close_timeout", "Wait this long for the answer to a download cut short, then log in anew", "1s"),
    RemoteOption("shut_timeout", "Wait this long for the answer to a finished transfer", "1m"),
    RemoteOption("socks_proxy", "SOCKS 5 proxy: [user:password@]host[:port]"),
    RemoteOption("http_proxy", "HTTP CONNECT proxy: http://[user:password@]host[:port]"),
    RemoteOption(
        "log_to_console", "Write what is said to the server, and its replies, on stderr, without names", "false"
    ),
    RemoteOption("log_private_info", "With host and user name in it (the password never is)", "false"),
    RemoteOption("encoding", "What to replace in names, in rclone's words", "Slash,Del,Ctl,RightSpace,Dot"),
)

_SFTP_OPTIONS = (
    RemoteOption("host", "Host name or address, or a Host of ~/.ssh/config", required=True, examples=("example.com",)),
    RemoteOption("user", "User name; if empty what ~/.ssh/config says, else the current user"),
    RemoteOption("port", "Port; if empty what ~/.ssh/config says, else 22"),
    RemoteOption("pass", "Password", secret=True),
    RemoteOption("ask_password", "Ask for the password on the terminal if there is none", "false"),
    RemoteOption("key_file", "File of the private key"),
    RemoteOption("key_pem", "The private key itself, on one line with \\n for its line breaks"),
    RemoteOption("key_file_pass", "Passphrase of the private key", secret=True),
    RemoteOption("pubkey_file", "File of an SSH certificate for the private key"),
    RemoteOption("key_use_agent", "Use the ssh-agent's keys; with key_file only that key, found by its .pub", "false"),
    RemoteOption("known_hosts_file", "Host keys to trust, instead of those of ~/.ssh/known_hosts and ~/.ssh/config"),
    RemoteOption("strict_host_key_checking", "yes, accept-new (trust a host's first key), no (trust any key)", "yes"),
    RemoteOption("ssh_config", "OpenSSH client configuration to honour, or none", "~/.ssh/config"),
    RemoteOption("use_insecure_cipher", "Accept old ciphers and key exchanges too", "false"),
    RemoteOption("ciphers", "Ciphers in order of preference, instead of the usual ones"),
    RemoteOption("key_exchange", "Key exchange algorithms, instead of the usual ones"),
    RemoteOption("macs", "Message authentication codes, instead of the usual ones"),
    RemoteOption("host_key_algorithms", "Kinds of host keys, instead of those of known_hosts"),
    RemoteOption("disable_hashcheck", "Run no hash programs on the server", "false"),
    RemoteOption("md5sum_command", "Program on the server that makes MD5 hashes; none: do not; empty: look for one"),
    RemoteOption("sha1sum_command", "The same for SHA-1"),
    RemoteOption("sha256sum_command", "The same for SHA-256"),
    RemoteOption("shell_type", "unix; powershell, cmd or none: run no programs; empty: find out"),
    RemoteOption("path_override", "Where the root is for hash programs; @/x: SFTP's paths lie below /x there"),
    RemoteOption("set_modtime", "Set modification times", "true"),
    RemoteOption("skip_links", "Hide symbolic links", "false"),
    RemoteOption("owners", "Show and set the server's user and group numbers", "false"),
    RemoteOption("sync", "Ask the server to write an upload to its disk before it replaces a file", "true"),
    RemoteOption("chunk_size", "Bytes in one request, if the server takes as many", "255Ki"),
    RemoteOption("concurrency", "Requests at once for one file, 4 MiB of them at most", "64"),
    RemoteOption("disable_concurrent_reads", "Read with one request at a time", "false"),
    RemoteOption("disable_concurrent_writes", "Write with one request at a time", "false"),
    RemoteOption("connections", "Connections at once; 0: 4, or what the server allows if that is less", "0"),
    RemoteOption("set_env", "Environment variables for the server, NAME=value with blanks between"),
    RemoteOption("connect_timeout", "Give up connecting after this long", "1m"),
    RemoteOption("timeout", "Give up on a server that does not answer for this long", "1m"),
    RemoteOption("idle_timeout", "Close a connection that is unused for this long; 0: never", "1m"),
)
_SFTP_REFUSED = {
    "ssh": "portside speaks SSH itself; jump hosts and proxies go into ~/.ssh/config (ProxyJump, ProxyCommand)",
    "socks_proxy": "name a ProxyCommand in ~/.ssh/config instead",
    "http_proxy": "name a ProxyCommand in ~/.ssh/config instead",
    "server_command": "only the server's SFTP subsystem is used",
    "subsystem": "only the subsystem called sftp is used",
    "copy_is_hardlink": "a copy that changes with its original is none; hard links are made where they are asked for",
}

UNSERVED = {
    **longtail.UNSERVED,
    "union": "is not supported; mount or serve its upstreams one by one, in one process with portside gateway",
    "combine": "is not supported; mount or serve its upstreams one by one, in one process with portside gateway",
    "chunker": "is not supported; copy its files with rclone to a remote without it",
    "compress": "is not supported; copy its files with rclone to a remote without it",
    "hasher": "is not supported; name the remote that it stands around",
    "cache": "is not supported; name the remote that it stands around: portside has a cache of its own",
}
"""Types of rclone's that are known and not there, and what to do instead."""

_CRYPT_OPTIONS = (
    RemoteOption("remote", "What it stands around", required=True, examples=("photos:encrypted", "/srv/encrypted")),
    RemoteOption("password", "Password", secret=True),
    RemoteOption("password2", "Second password, the salt; recommended, and different from the first", secret=True),
    RemoteOption("filename_encryption", "standard, obfuscate, or off: plain names with a suffix", "standard"),
    RemoteOption("directory_name_encryption", "Hide the names of directories, too", "true"),
    RemoteOption("filename_encoding", "How encrypted names are spelled: base32, or base64 (shorter, and for storage "
                 "that tells upper from lower case)", "base32"),
    RemoteOption("suffix", "What plain names end in; none: nothing", ".bin"),
    RemoteOption("no_data_encryption", "Leave the content as it is", "false"),
    RemoteOption("pass_bad_blocks", "Read damaged blocks as zeros instead of failing", "false"),
    RemoteOption("strict_names", "A name that cannot be decrypted is an error, instead of being passed over", "false"),
)  # fmt: skip

_LOCAL_OPTIONS = (
    RemoteOption("copy_links", "Show what symbolic links point at, instead of the links", "false"),
    RemoteOption("skip_links", "Show no symbolic links", "false"),
    RemoteOption("no_check_updated", "Uploads are made from snapshots: changes nothing here", "false"),
)
_LOCAL_REFUSED = {
    "links": "symbolic links are links here; for files that end in .rclonelink use --links",
}
_WEB_PATIENCE = (
    RemoteOption("no_check_certificate", "Accept any certificate of the server", "false"),
    RemoteOption("ca_cert", "File of certificates (PEM) to trust instead of the system's"),
    RemoteOption("connections", "Connections at once", "8"),
    RemoteOption("connect_timeout", "Give up connecting after this long", "1m"),
    RemoteOption("timeout", "Give up on a server that sends or takes nothing for this long", "1m"),
)
_LOGIN = (
    RemoteOption("user", "User name, for Basic or Digest as the server asks"),
    RemoteOption("pass", "Password", secret=True),
    RemoteOption("bearer_token", "Token to log in with, instead of a user", sensitive=True),
    RemoteOption("bearer_token_command", "Program that prints such a token; run again when it has run out"),
    RemoteOption("headers", "Headers for all requests: name,value,name,value", sensitive=True),
)
_WEBDAV_OPTIONS = (
    RemoteOption("url", "Address of the folder", required=True, examples=("https://example.com/remote.php/dav/files/me",)),
    RemoteOption(
        "vendor", "Whose software it is; empty: find out",
        examples=("nextcloud", "owncloud", "infinitescale", "fastmail", "rclone", "other"),
    ),
    *_LOGIN,
    RemoteOption("encoding", "What to replace in names, in rclone's words", "None"),
    *_WEB_PATIENCE,
)  # fmt: skip
_WEBDAV_REFUSED = {
    "nextcloud_chunk_size": "a file is uploaded in one request; where a proxy limits these, raise its limit",
    "owncloud_exclude_shares": "all that the server lists is shown",
    "owncloud_exclude_mounts": "all that the server lists is shown",
    "unix_socket": "only servers with an address are reached",
    "auth_redirect": "credentials are sent to the site of the url only; name the site that it redirects to",
}
_HTTP_OPTIONS = (
    RemoteOption("url", "Address of the index page", required=True, examples=("https://example.com/pub/",)),
    *_LOGIN,
    RemoteOption("no_slash", "Addresses of directories do not end in a slash", "false"),
    *_WEB_PATIENCE,
)
_HTTP_REFUSED = {
    "no_head": "without HEAD nobody knows how large a file is, and it could not be read",
    "no_escape": "an address with raw characters in it is none",
}

_SMB_OPTIONS = (
    RemoteOption("host", "Host name or address of the server", required=True, examples=("nas.example.com",)),
    RemoteOption("port", "Port", "445"),
    RemoteOption("user", "User name, or DOMAIN\\user; the current user's if empty"),
    RemoteOption("pass", "Password", secret=True),
    RemoteOption("domain", "Domain or workgroup that knows the user", "WORKGROUP"),
    RemoteOption("case_insensitive", "Names that differ only in upper and lower case are one file", "true"),
    RemoteOption("hide_special_share", "The path names the share, shares are not listed: changes nothing here", "true"),
    RemoteOption("connect_timeout", "Give up connecting after this long", "1m"),
    RemoteOption("timeout", "Give up on a server that does not answer for this long", "1m"),
    RemoteOption("idle_timeout", "Close a connection that is unused for this long; 0: never", "1m"),
    RemoteOption(
        "encoding",
        "What to replace in names, in rclone's words",
        "Slash,LtGt,DoubleQuote,Colon,Question,Asterisk,Pipe,BackSlash,Ctl,RightSpace,RightPeriod,InvalidUtf8,Dot",
    ),
)
_SMB_KERBEROS = "logins are made with NTLM, by user and password; Kerberos is not supported"
_SMB_REFUSED = {"spn": _SMB_KERBEROS, "use_kerberos": _SMB_KERBEROS, "kerberos_ccache": _SMB_KERBEROS}

ALIAS = RemoteType(
    "alias",
    "Another name for a remote, or for a place in one",
    "",
    (RemoteOption("remote", "The remote or folder it stands for", required=True, examples=("photos:2024",)),),
)
"""Followed by :mod:`.conf`; no storage, and so not one of the types."""

TYPES: tuple[RemoteType, ...] = (
    RemoteType(
        "crypt",
        "Encrypted files on another remote",
        "mountcore.remotes.crypt:open",
        _CRYPT_OPTIONS,
        wraps="remote",
        extra="crypt",
    ),
    RemoteType("ftp", "An FTP server", "mountcore.remotes.ftp:open", _FTP_OPTIONS),
    RemoteType("local", "A folder of this machine", "mountcore.remotes.local:open", _LOCAL_OPTIONS, _LOCAL_REFUSED),
    RemoteType("memory", "Files in this process's memory, gone when it ends", "mountcore.remotes.memory:open"),
    RemoteType("sftp", "An SSH server", "mountcore.remotes.sftp:open", _SFTP_OPTIONS, _SFTP_REFUSED, "sftp"),
    RemoteType(
        "smb",
        "A share of Windows, Samba or a NAS box",
        "mountcore.remotes.smb:open",
        _SMB_OPTIONS,
        _SMB_REFUSED,
        "smb",
    ),
    RemoteType(
        "webdav", "A WebDAV server", "mountcore.remotes.webdav:open", _WEBDAV_OPTIONS, _WEBDAV_REFUSED, "webdav"
    ),
    RemoteType(
        "http",
        "A web site with index pages, to read from",
        "mountcore.remotes.http_index:open",
        _HTTP_OPTIONS,
        _HTTP_REFUSED,
        "webdav",
    ),
    *objects.TYPES,
    *longtail.TYPES,
)
