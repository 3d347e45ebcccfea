"""The object stores' part of the table of storage types: their options under rclone's names."""

from __future__ import annotations

from ..registry import RemoteOption as Option
from ..registry import RemoteType

_PATIENCE = (
    Option("no_check_certificate", "Accept any certificate of the server", "false"),
    Option("ca_cert", "File of certificates (PEM) to trust instead of the system's"),
    Option("connect_timeout", "Give up connecting after this long", "1m"),
    Option("timeout", "Give up on a server that sends or takes nothing for this long", "1m"),
)
_TIMES = Option(
    "use_server_modtime", "A file's time is when it was stored: listing asks for no object's metadata", "false"
)
_NO_EFFECT = "changes nothing here"

_S3_OPTIONS = (
    Option("provider", "Whose S3 it is; decides how buckets are addressed and where they are", "Other",
           examples=("AWS", "Ceph", "Cloudflare", "Minio", "Rclone", "Other")),
    Option("access_key_id", "Access key; empty and no env_auth: ask without a login", sensitive=True),
    Option("secret_access_key", "Secret of the access key", sensitive=True),
    Option("session_token", "Token that belongs to temporary keys", sensitive=True),
    Option("env_auth", "Find the keys in the environment, a profile, the container or the instance", "false"),
    Option("profile", "Profile of ~/.aws/credentials; with env_auth"),
    Option("shared_credentials_file", "Instead of ~/.aws/credentials; with env_auth"),
    Option("region", "Region of the bucket; empty: us-east-1, or what the server says"),
    Option("endpoint", "Address of the server; empty: Amazon's of the region", examples=("https://s3.example.com",)),
    Option("force_path_style", "Address buckets as /bucket and not as bucket.host; unset: as the provider needs"),
    Option("use_dual_stack", "Amazon's endpoints that have IPv6", "false"),
    Option("use_accelerate_endpoint", "Amazon's accelerated endpoint", "false"),
    Option("requester_pays", "The one who asks pays", "false"),
    Option("acl", "Canned ACL of what is stored", examples=("private", "bucket-owner-full-control")),
    Option("storage_class", "Storage class of what is stored", examples=("STANDARD_IA", "INTELLIGENT_TIERING")),
    Option("server_side_encryption", "Encryption at the server", examples=("AES256", "aws:kms", "aws:kms:dsse")),
    Option("sse_kms_key_id", "Key for aws:kms"),
    Option("sse_customer_algorithm", "AES256 to encrypt with a key of yours (SSE-C)"),
    Option("sse_customer_key", "That key, 32 bytes as text", sensitive=True),
    Option("sse_customer_key_base64", "That key in base64", sensitive=True),
    Option("sse_customer_key_md5", "MD5 of that key in base64; computed if empty"),
    Option("upload_cutoff", "Larger files are stored in parts", "200Mi"),
    Option("chunk_size", "Size of a part; grows so that max_upload_parts suffice", "5Mi"),
    Option("max_upload_parts", "Parts that one file may have", "10000"),
    Option("upload_concurrency", "Parts of one file that are sent at once", "4"),
    Option("copy_cutoff", "Larger files are copied in parts", "4656Mi"),
    Option("leave_parts_on_error", "Do not delete the parts of an upload that failed", "false"),
    Option("disable_checksum", "Do not compute the MD5 of what is sent, nor compare it with the server's", "false"),
    Option("use_unsigned_payload", "Do not sign the content; unset: true with https", "unset"),
    Option("list_chunk", "Entries in one page of a listing", "1000"),
    Option("list_version", "Listing with version 1 or 2 of the protocol; 0: 2", "0"),
    Option("list_url_encode", "Ask for percent-encoded names; unset: true", "unset"),
    Option("directory_markers", "Keep empty directories as objects whose names end in a slash", "false"),
    Option("no_check_bucket", "Never make the bucket; portside does so only for mkdir", "false"),
    Option("use_presigned_request", "Upload with a signed URL; changes nothing here", "false"),
    Option("no_head", "Do not look at an upload afterwards; portside never does", "false"),
    Option("no_head_object", "Do not look at an object before reading; portside never does", "false"),
    Option("conditional_put", "Whether the server honours If-Match; unset: tried once", "unset"),
    Option("location_constraint", "Region for a new bucket; empty: region"),
    Option("concurrency", "Connections at once", "64"),
    _TIMES,
    *_PATIENCE,
)  # fmt: skip
_S3_REFUSED = {
    "v2_auth": "signatures of version 2 are not made; use a server that takes version 4",
    "role_arn": "a role is not assumed here; name a profile or set AWS_WEB_IDENTITY_TOKEN_FILE",
    "role_session_name": "a role is not assumed here",
    "role_session_duration": "a role is not assumed here",
    "role_external_id": "a role is not assumed here",
    "versions": "old versions are not shown",
    "version_at": "old versions are not shown",
    "version_deleted": "old versions are not shown",
    "decompress": "files are read as they are stored",
    "directory_bucket": "S3 Express directory buckets need another kind of login",
    "ibm_api_key": "IBM's IAM login is not made; use HMAC keys (access_key_id)",
    "ibm_resource_instance_id": "IBM's IAM login is not made; use HMAC keys (access_key_id)",
    "object_lock_mode": "object locks are not set; use the bucket's default retention",
    "object_lock_retain_until_date": "object locks are not set; use the bucket's default retention",
    "object_lock_legal_hold_status": "object locks are not set",
    "download_url": "files are read from the endpoint",
}

_AZURE_OPTIONS = (
    Option("account", "Name of the storage account"),
    Option("key", "Key of the account", sensitive=True),
    Option("sas_url", "A shared access signature, as URL", sensitive=True),
    Option("connection_string", "Account and key in one string", sensitive=True),
    Option("tenant", "Tenant of a service principal"),
    Option("client_id", "Client of a service principal"),
    Option("client_secret", "Secret of a service principal", sensitive=True),
    Option("env_auth", "Find the login in the environment (AZURE_STORAGE_…)", "false"),
    Option("use_msi", "The machine's managed identity", "false"),
    Option("msi_object_id", "Which managed identity, by object"),
    Option("msi_client_id", "Which managed identity, by client"),
    Option("msi_mi_res_id", "Which managed identity, by resource"),
    Option("use_az", "The login of the az command", "false"),
    Option("use_emulator", "The emulator (Azurite) on this machine, on port 10000", "false"),
    Option("endpoint", "Address of the service; empty: Azure's of the account"),
    Option("access_tier", "Tier of what is stored: Hot, Cool, Cold or Archive"),
    Option("upload_cutoff", "Larger files are stored in parts, without a condition", "16Mi"),
    Option("chunk_size", "Size of a part", "4Mi"),
    Option("upload_concurrency", "Parts of one file that are sent at once", "4"),
    Option("encoding", "What to replace in names, in rclone's words",
           "Slash,BackSlash,Del,Ctl,RightPeriod,InvalidUtf8"),
    Option("no_check_container", "Never make the container; portside never does", "false"),
    Option("no_head_object", "Do not look at an object before reading; portside never does", "false"),
    _TIMES,
    *_PATIENCE,
)  # fmt: skip
_AZURE_REFUSED = {
    "client_certificate_path": "certificates are not used to log in; set client_secret",
    "client_certificate_password": "certificates are not used to log in; set client_secret",
    "username": "logins by user and password are not made; set client_secret",
    "password": "logins by user and password are not made; set client_secret",
    "service_principal_file": "write tenant, client_id and client_secret instead",
    "directory_markers": "obstore cannot store names that end in a slash; empty folders are remembered until the end",
    "public_access": "containers are not made here",
    "delete_snapshots": "snapshots are not deleted",
    "decompress": "files are read as they are stored",
}
_GCS_OPTIONS = (
    Option("service_account_file", "File of a service account's key, in JSON"),
    Option("service_account_credentials", "The same, in place", sensitive=True),
    Option("token", "OAuth token as rclone keeps it, in JSON", sensitive=True),
    Option("client_id", "OAuth client that the token was made with; needed to renew it"),
    Option("client_secret", "Secret of the OAuth client", sensitive=True),
    Option("token_url", "Where tokens are renewed; empty: Google's"),
    Option("access_token", "An access token, as long as it lives", sensitive=True),
    Option("anonymous", "Without a login, to read what everybody may read", "false"),
    Option("env_auth", "The login of the environment (GOOGLE_APPLICATION_CREDENTIALS) or the instance", "false"),
    Option("endpoint", "Address of the service; empty: Google's"),
    Option("storage_class", "Storage class of what is stored"),
    Option("upload_cutoff", "Larger files are stored in parts, without a condition", "16Mi"),
    Option("chunk_size", "Size of a part", "8Mi"),
    Option("upload_concurrency", "Parts of one file that are sent at once", "4"),
    Option("encoding", "What to replace in names, in rclone's words", "Slash,CrLf,Ctl,Del,InvalidUtf8,Dot"),
    Option("bucket_policy_only", "No ACLs on objects; portside sets none", "false"),
    Option("no_check_bucket", "Never make the bucket; portside never does", "false"),
    Option("project_number", "For making buckets, which portside does not do"),
    _TIMES,
    *_PATIENCE,
)
_GCS_REFUSED = {
    "object_acl": "ACLs are not set; use uniform bucket-level access",
    "bucket_acl": "buckets are not made here",
    "location": "buckets are not made here",
    "user_project": "requester-pays buckets are not supported",
    "client_credentials": "this way to log in is not supported; use service_account_file",
    "auth_url": "tokens are not made here; rclone authorize makes one",
    "directory_markers": "obstore cannot store names that end in a slash; empty folders are remembered until the end",
    "decompress": "files are read as they are stored",
}

TYPES: tuple[RemoteType, ...] = (
    RemoteType(
        "s3", "Amazon S3 and what speaks it: MinIO, Ceph, B2, R2, Wasabi and others",
        "mountcore.remotes.objects.s3:open", _S3_OPTIONS, _S3_REFUSED, "s3",
    ),
    RemoteType(
        "azureblob", "Azure Blob Storage",
        "mountcore.remotes.objects.azure:open", _AZURE_OPTIONS, _AZURE_REFUSED, "obstore",
    ),
    RemoteType(
        "gcs", "Google Cloud Storage",
        "mountcore.remotes.objects.gcs:open", _GCS_OPTIONS, _GCS_REFUSED, "obstore",
        ("google cloud storage",),
    ),
)  # fmt: skip
