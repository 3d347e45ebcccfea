"""The table of storage types. Each type's options live beside its adapter's documentation here."""

from __future__ import annotations

from .registry import RemoteOption, RemoteType

_FTP_OPTIONS = (
    RemoteOption("host", "Host name or address of the server", required=True, examples=("ftp.example.com",)),
    RemoteOption("port", "Port; 21 if empty", "21"),
    RemoteOption("user", "User name; the current user's if empty"),
    RemoteOption("pass", "Password", secret=True),
    RemoteOption("ask_password", "Ask for the password on the terminal if there is none", "false"),
    RemoteOption("tls", "Implicit TLS: encrypted from the first byte, usually on port 990", "false"),
    RemoteOption("explicit_tls", "Explicit TLS: AUTH TLS on the plain port; not together with tls", "false"),
    RemoteOption("no_check_certificate", "Accept any certificate of the server", "false"),
    RemoteOption("ca_cert", "File of certificates (PEM) to trust instead of the system's"),
    RemoteOption("client_cert", "File of the certificate (PEM) to show to the server"),
    RemoteOption("client_key", "File of the key (PEM) of client_cert, if it is not in the same file"),
    RemoteOption("tls_cache_size", "0: never resume TLS sessions; vsftpd and proftpd insist on it by default", "32"),
    RemoteOption("disable_tls13", "Use TLS 1.2 at most, for servers whose TLS 1.3 is broken", "false"),
    RemoteOption("allow_insecure_tls_ciphers", "Accept TLS_RSA_WITH_AES_128_GCM_SHA256 too", "false"),
    RemoteOption("concurrency", "Connections at once; 0: 8, or what the server allows if that is less", "0"),
    RemoteOption("active", "Active mode: the server connects back for every transfer", "false"),
    RemoteOption("disable_epsv", "Use PASV even if the server knows EPSV", "false"),
    RemoteOption("disable_mlsd", "Use LIST even if the server knows MLSD", "false"),
    RemoteOption("disable_utf8", "Do not switch the server to UTF-8", "false"),
    RemoteOption("force_list_hidden", "Use LIST -a to see hidden files; implies disable_mlsd", "false"),
    RemoteOption("writing_mdtm", "Set times with MDTM instead of MFMT (vsftpd)", "false"),
    RemoteOption("no_check_upload", "Do not look whether an upload arrived; for write-only folders", "false"),
    RemoteOption("connect_timeout", "Give up connecting after this long", "1m"),
    RemoteOption("timeout", "Give up on a server that sends or takes nothing for this long", "1m"),
    RemoteOption("idle_timeout", "Close a connection that is unused for this long; 0: never", "1m"),
    RemoteOption("close_timeout", "Wait this long for the answer to a download cut short, then log in anew", "1s"),
    RemoteOption("shut_timeout", "Wait this long for the answer to a finished transfer", "1m"),
    RemoteOption("socks_proxy", "SOCKS 5 proxy: [user:password@]host[:port]"),
    RemoteOption("http_proxy", "HTTP CONNECT proxy: http://[user:password@]host[:port]"),
    RemoteOption("encoding", "What to replace in names, in rclone's words", "Slash,Del,Ctl,RightSpace,Dot"),
)

TYPES: tuple[RemoteType, ...] = (
    RemoteType("ftp", "An FTP server", "mountcore.remotes.ftp:open", _FTP_OPTIONS),
    RemoteType("local", "A folder of this machine", "mountcore.remotes.local:open"),
    RemoteType("memory", "Files in this process's memory, gone when it ends", "mountcore.remotes.memory:open"),
)
