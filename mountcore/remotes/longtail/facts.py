"""The long tail's part of the table of storage types: options under rclone's names where it has them."""

from __future__ import annotations

from ..registry import RemoteOption as Option
from ..registry import RemoteType

_COMMON = (
    Option("timeout", "Give up on a server that does not answer for this long", "1m"),
    Option("largest_upload", "Refuse larger files where the service takes a file in one piece, from memory", "256Mi"),
)
_TOKEN = (
    Option("token", "OAuth token as rclone keeps it, in JSON", sensitive=True),
    Option("client_id", "OAuth client that the token was made with; needed to renew it"),
    Option("client_secret", "Secret of the OAuth client", sensitive=True),
)
_KEYSTONE = dict.fromkeys(
    ("user", "key", "auth", "tenant", "region", "domain", "env_auth", "application_credential_id"),
    "OpenDAL does not log in at Keystone; give storage_url and auth_token",
)
_PASSWORD_ONLY = "OpenDAL logs in with user and password only"  # noqa: S105 - words
_ADAPTER = "mountcore.remotes.longtail.remote:open_"


def _type(name: str, help: str, options: tuple[Option, ...], refused: dict[str, str] | None = None) -> RemoteType:
    return RemoteType(name, help, f"{_ADAPTER}{name}", (*options, *_COMMON), refused or {}, "opendal")


_BUCKET_KEYS = (
    Option("access_key_id", "Access key", sensitive=True),
    Option("secret_access_key", "Secret of the access key", sensitive=True),
    Option("endpoint", "Address of the service in the bucket's region", required=True),
)
TYPES: tuple[RemoteType, ...] = (
    _type(
        "b2", "Backblaze B2 (its S3 interface, type s3, can do more)",
        (Option("account", "Key ID", required=True),
         Option("key", "Application key", required=True, sensitive=True),
         Option("bucket_id", "ID of the bucket, as B2's page shows it", required=True)),
        {"versions": "old versions are not shown", "version_at": "old versions are not shown",
         "endpoint": "the service tells where it is", "download_url": "files are read from B2 itself",
         "hard_delete": "deleting hides a file, as B2 does; set the bucket's lifecycle"},
    ),
    _type("dropbox", "Dropbox", _TOKEN, {
        "shared_files": "only your own files are shown", "shared_folders": "only your own folders are shown",
        "impersonate": "only the token's own files are shown"}),
    _type("drive", "Google Drive", (
        *_TOKEN, Option("scope", "What the token may do; the token decides"),
        Option("team_drive", "Must be empty: only My Drive is shown"),
    ), {
        "service_account_file": "OpenDAL takes OAuth tokens only", "service_account_credentials": "OAuth tokens only",
        "root_folder_id": "name the folder in the path", "shared_with_me": "only My Drive is shown",
        "trashed_only": "the bin is not shown", "impersonate": "only the token's own files are shown"}),
    _type("onedrive", "Microsoft OneDrive", (
        *_TOKEN, Option("drive_id", "ID of the token's own drive; another is not reached"),
        Option("drive_type", "personal or business", "personal"),
        Option("region", "global; other clouds are not reached", "global")), {
        "tenant": "only the common endpoint is used", "client_credentials": "OAuth tokens only"}),
    _type("swift", "OpenStack Swift", (
        Option("storage_url", "Address of the account's storage", required=True),
        Option("auth_token", "Token for it", required=True, sensitive=True)), _KEYSTONE),
    _type("yandex", "Yandex Disk", (Option("token", "OAuth token as rclone keeps it, or bare", required=True,
                                           sensitive=True),
                                    Option("client_id", "Not needed: the token is not renewed"),
                                    Option("client_secret", "Not needed: the token is not renewed", sensitive=True)), {
        "hard_delete": "what is deleted goes to the bin"}),
    _type("koofr", "Koofr", (
        Option("provider", "koofr; for another give its endpoint", "koofr"),
        Option("endpoint", "Address of the service; empty: Koofr's"),
        Option("user", "User name: an e-mail address", required=True),
        Option("password", "Application password", required=True, secret=True)), {
        "mountid": "only the primary place is shown"}),
    _type("azurefiles", "Azure Files (files of up to 4 MiB: OpenDAL stores them in one piece)", (
        Option("account", "Name of the storage account", required=True),
        Option("key", "Key of the account", sensitive=True),
        Option("sas_url", "A shared access signature, as URL", sensitive=True),
        Option("share_name", "Name of the share", required=True),
        Option("endpoint", "Address of the service; empty: Azure's of the account"))),
    _type("seafile", "Seafile", (
        Option("url", "Address of the server", required=True),
        Option("user", "User name: an e-mail address", required=True),
        Option("pass", "Password", required=True, secret=True),
        Option("library", "Name of the library; empty: the first part of the path")), {
        "2fa": _PASSWORD_ONLY, "auth_token": _PASSWORD_ONLY,
        "library_key": "encrypted libraries cannot be opened"}),
    _type("webhdfs", "Hadoop over HTTP (WebHDFS, HttpFS)", (
        Option("endpoint", "Address of the name node", required=True, examples=("http://namenode:9870",)),
        Option("user_name", "User name"),
        Option("delegation", "Delegation token", sensitive=True))),
    _type("oss", "Alibaba Cloud OSS", _BUCKET_KEYS),
    _type("cos", "Tencent Cloud COS", _BUCKET_KEYS),
    _type("obs", "Huawei Cloud OBS", _BUCKET_KEYS),
    _type("opendal", "Any service that the installed OpenDAL has", (
        Option("service", "Its name in OpenDAL", required=True, examples=("fs", "webdav", "upyun")),
        Option("config", "OpenDAL's own options: NAME=value with blanks between, quoted as in a shell",
               sensitive=True))),
)  # fmt: skip

_USE = "not supported by portside"
UNSERVED: dict[str, str] = {
    "amazon cloud drive": "Amazon has ended Amazon Drive; nobody can serve it any more",
    "acd": "Amazon has ended Amazon Drive; nobody can serve it any more",
    "hubic": "OVH has ended hubiC; nobody can serve it any more",
    "tardigrade": "Tardigrade is called Storj now; use its S3 gateway with type s3",
    "storj": "use Storj's S3 gateway with type s3 (provider Storj)",
    "hdfs": "Hadoop's own protocol is not spoken; use type webhdfs",
    "pcloud": "pCloud can be reached over WebDAV: type webdav, url https://webdav.pcloud.com",
    "box": "Box can be reached over FTP: type ftp, host ftp.box.com, tls = true",
    "qingstor": "QingStor has an S3 interface: type s3 with its endpoint",
    "oracleobjectstorage": "Oracle's object storage has an S3 interface: type s3 with its endpoint",
    "internetarchive": "the Internet Archive has an S3 interface: type s3, endpoint https://s3.us.archive.org",
    "mailru": _USE, "mega": _USE, "google photos": _USE, "jottacloud": _USE, "protondrive": _USE,
    "iclouddrive": _USE, "opendrive": _USE, "putio": _USE, "pikpak": _USE, "premiumizeme": _USE, "fichier": _USE,
    "hidrive": "HiDrive can be reached over WebDAV, SFTP and FTP: types webdav, sftp, ftp",
    "sharefile": _USE, "sugarsync": _USE, "zoho": _USE, "netstorage": _USE, "filefabric": _USE, "sia": _USE,
}  # fmt: skip
"""Types that others have and portside has not, and what to do instead."""
