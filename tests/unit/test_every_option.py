"""Of every option of the core, the mount and the FTP server: the test that shows what it changes."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from ftp_frontend.command import OPTIONS as SERVER
from fuse_frontend.settings import IGNORED
from fuse_frontend.settings import OPTIONS as MOUNT
from mountcore.options import VFS_OPTIONS

TESTS = Path(__file__).parent.parent
OF_THE_CORE = {
    "cache-dir": "fuse/test_files.py::test_a_cache_on_a_file_system_without_sparse_files_is_refused",
    "vfs-cache-mode": "model/test_cache_modes.py::test_off_stores_at_close_and_reads_past_the_cache",
    "vfs-cache-max-age": "model/test_conflicts_and_bounds.py::test_age_takes_what_nobody_used",
    "vfs-cache-max-size": "model/test_conflicts_and_bounds.py::test_a_writer_over_the_bound_waits_for_uploads",
    "vfs-cache-min-free-space": "model/test_options.py::test_min_free_space_keeps_the_disk_free",
    "vfs-cache-poll-interval": "model/test_conflicts_and_bounds.py::test_age_takes_what_nobody_used",
    "vfs-write-back": "model/test_writeback.py::test_the_delay_begins_with_the_last_close",
    "transfers": "model/test_writeback.py::test_no_more_uploads_run_at_once_than_allowed",
    "on-conflict": "model/test_conflicts_and_bounds.py::test_one_side_wins_where_that_is_wanted",
    "no-checksum": "model/test_verification.py::test_no_checksum_asks_for_none",
    "vfs-read-chunk-size": "model/test_reading.py::test_requests_double_at_each_exact_end_up_to_the_limit",
    "vfs-read-chunk-size-limit": "model/test_reading.py::test_requests_double_at_each_exact_end_up_to_the_limit",
    "vfs-read-chunk-streams": "model/test_reading.py::test_parallel_streams_fetch_chunks_of_a_sequential_read_side_by_side",  # noqa: E501
    "buffer-size": "model/test_reading.py::test_a_sequential_reader_has_so_much_read_ahead_of_him_and_no_more",
    "vfs-read-ahead": "model/test_reading.py::test_a_sequential_reader_has_so_much_read_ahead_of_him_and_no_more",
    "vfs-read-wait": "model/test_options.py::test_read_wait_puts_reads_in_order_instead_of_seeking",
    "vfs-write-wait": "model/test_options.py::test_write_wait_puts_writes_in_order_instead_of_refusing",
    "no-seek": "model/test_options.py::test_no_seek_reads_in_order_only",
    "vfs-handle-caching": "model/test_links_and_owners.py::test_a_download_waits_for_its_reader_as_long_as_asked",
    "timeout": "model/test_reading.py::test_a_remote_that_sends_nothing_times_out_and_stalls_nobody_else",
    "dir-cache-time": "model/test_tree.py::test_a_listing_is_believed_for_its_time_and_then_asked_for_again",
    "poll-interval": "model/test_polling.py::test_poll_interval_0_asks_for_nothing",
    "vfs-refresh": "model/test_options.py::test_refresh_lists_everything_at_the_start",
    "vfs-case-insensitive": "model/test_options.py::test_names_are_found_whatever_their_case",
    "no-unicode-normalization": "model/test_options.py::test_names_in_other_normal_forms_are_the_same_unless_asked",
    "vfs-block-norm-dupes": "model/test_options.py::test_names_that_count_as_the_same_are_shown_once",
    "links": "model/test_links_and_owners.py::test_links_are_files_where_the_remote_has_none",
    "vfs-links": "model/test_links_and_owners.py::test_links_are_files_where_the_remote_has_none",
    "vfs-metadata-extension": "model/test_links_and_owners.py::test_what_is_known_of_a_file_is_a_file_that_no_listing_has",  # noqa: E501
    "no-modtime": "model/test_links_and_owners.py::test_no_modtime_shows_the_directorys_and_sets_none",
    "bwlimit": "model/test_options.py::test_bwlimit_slows_uploads_and_downloads",
    "tpslimit": "model/test_options.py::test_tpslimit_spaces_requests",
    "read-only": "fuse/test_life.py::test_read_only_refuses_every_change",
    "vfs-used-is-size": "model/test_conflicts_and_bounds.py::test_used_is_size_counts_the_remote",
    "vfs-disk-space-total-size": "model/test_conflicts_and_bounds.py::test_used_is_size_counts_the_remote",
    "uid": "fuse/test_calls.py::test_uid_and_gid_that_are_given_win",
    "gid": "fuse/test_calls.py::test_uid_and_gid_that_are_given_win",
    "umask": "model/test_options.py::test_permission_bits_of_directories_and_files",
    "dir-perms": "model/test_options.py::test_permission_bits_of_directories_and_files",
    "file-perms": "model/test_options.py::test_permission_bits_of_directories_and_files",
    "link-perms": "model/test_links_and_owners.py::test_permission_bits_of_links",
}
FOR_SCRIPTS_ALONE = {"vfs-fast-fingerprint", "use-server-modtime", *(option.name for option in IGNORED)}
"""Accepted as rclone's, and said to change nothing."""
OF_THE_MOUNT = {
    "allow-other": "fuse/test_calls.py::test_who_makes_a_file_owns_it",
    "allow-root": "fuse/test_options.py::test_the_mount_of_one_is_open_to_root_and_nobody_else",
    "allow-non-empty": "fuse/test_options.py::test_a_place_that_is_not_empty_is_mounted_over_when_asked",
    "default-permissions": "fuse/test_life.py::test_options_for_the_kernel",
    "attr-timeout": "fuse/test_life.py::test_attr_timeout_zero_sees_what_nobody_told",
    "max-read-ahead": "fuse/test_life.py::test_max_read_ahead",
    "async-read": "fuse/test_options.py::test_how_many_parts_of_a_file_the_kernel_asks_for_at_once",
    "direct-io": "fuse/test_life.py::test_direct_io_reads_and_writes",
    "write-back-cache": "fuse/test_life.py::test_write_back_cache_stores_the_same",
    "devname": "fuse/test_options.py::test_devname_wins_over_volname",
    "volname": "fuse/test_options.py::test_what_df_shows",
    "fuse-flag": "fuse/test_life.py::test_options_for_the_kernel",
    "daemon-timeout": "fuse/test_options.py::test_a_request_that_takes_too_long_times_out",
    "debug-fuse": "fuse/test_options.py::test_debug_fuse_says_every_request",
    "xattr": "fuse/test_xattrs.py::test_a_pinned_file_is_fetched_and_stays",
    "fsync": "fuse/test_fsync.py::test_fsync_returns_when_the_file_is_where_it_was_asked_for",
    "fuse-session": "fuse/test_life.py::test_two_mounts_in_one_process_share_the_core",
    "passthrough": "fuse/test_passthrough.py::test_a_program_that_goes_on_writing_after_the_end_writes_into_nothing",
    "fuse-tasks": "fuse/test_options.py::test_so_many_requests_wait_at_once",
}
OF_THE_SERVER = {
    "addr": "ftp/test_options.py::test_several_addresses_may_be_given_one_by_one",
    "addr-implicit": "ftp/test_tls.py::test_implicit_on_a_second_address",
    "public-ip": "ftp/test_nat.py::test_with_public_ip_passive_connections_pass_the_router",
    "passive-port": "ftp/test_security.py::test_passive_ports_are_of_the_range_and_run_out",
    "user": "ftp/test_security.py::test_wrong_logins",
    "pass": "ftp/test_security.py::test_empty_password_accepts_any",
    "pass-file": "ftp/test_options.py::test_the_password_from_a_file",
    "auth-proxy": "ftp/test_auth_proxy.py::test_the_question_is_rclones",
    "auth-proxy-mode": "ftp/test_auth_proxy.py::test_a_stream_that_dies_is_started_again",
    "auth-proxy-timeout": "ftp/test_auth_proxy.py::test_bad_answers_refuse_the_login_and_nothing_else",
    "auth-proxy-cache": "ftp/test_auth_proxy.py::test_remembering_can_be_turned_off_and_ends",
    "cert": "ftp/test_tls.py::test_a_renewed_certificate_is_used_without_a_restart",
    "key": "ftp/test_tls.py::test_a_renewed_certificate_is_used_without_a_restart",
    "tls": "ftp/test_tls.py::test_plain_clients_are_welcome_unless_tls_is_required",
    "min-tls": "ftp/test_tls.py::test_old_versions_are_refused",
    "tls-session-reuse": "ftp/test_tls.py::test_reuse_of_the_session_can_be_required",
    "tls-strict-end": "ftp/test_tls.py::test_an_end_without_close_notify",
    "client-ca": "ftp/test_tls.py::test_client_certificates",
    "idle-timeout": "ftp/test_transfers.py::test_an_idle_session_is_ended",
    "data-timeout": "ftp/test_transfers.py::test_a_client_that_stops_sending_is_sent_away",
    "max-connections": "ftp/test_security.py::test_limits_of_connections",
    "max-per-ip": "ftp/test_security.py::test_limits_of_connections",
    "max-login-attempts": "ftp/test_security.py::test_failed_logins_take_longer_end_the_session_and_ban",
    "login-delay": "ftp/test_security.py::test_failed_logins_take_longer_end_the_session_and_ban",
    "ban-after": "ftp/test_security.py::test_failed_logins_take_longer_end_the_session_and_ban",
    "ban-time": "ftp/test_security.py::test_failed_logins_take_longer_end_the_session_and_ban",
    "banner": "ftp/test_options.py::test_the_banner",
    "allow-active": "ftp/test_security.py::test_active_connections_work_and_can_be_turned_off",
    "allow-foreign-data": "ftp/test_security.py::test_data_connections_of_others_are_let_in_where_that_is_wanted",
    "proxy-protocol": "ftp/test_load_balancer.py::test_who_is_no_balancer_cannot_pretend",
    "transfer-bwlimit": "ftp/test_accounting.py::test_a_transfer_keeps_its_rate_and_the_control_connection_answers",
    "user-bwlimit": "ftp/test_accounting.py::test_a_users_sessions_share_his_rate",
    "transfer-log": "ftp/test_accounting.py::test_xferlog",
    "transfer-log-format": "ftp/test_accounting.py::test_json_has_a_line_for_every_transfer_of_a_file",
    "keep-partial": "ftp/test_transfers.py::test_keep_partial_keeps_what_arrived",
    "mode-z": "ftp/test_compression.py::test_both_ways",
    "fallback-encoding": "ftp/test_commands.py::test_names_of_old_clients_are_read_in_the_fallback_encoding",
    "ftp-upload-ack": "ftp/test_options.py::test_uploads_can_be_acknowledged_by_the_storage",
}


def test_no_option_is_missing() -> None:
    assert {*OF_THE_CORE, *OF_THE_MOUNT, *OF_THE_SERVER, *FOR_SCRIPTS_ALONE} == {
        option.name for option in (*VFS_OPTIONS, *MOUNT, *SERVER)
    }


@cache
def functions_of(file: Path) -> set[str]:
    """The functions of a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {found.name for found in ast.walk(ast.parse(file.read_text())) if isinstance(found, functions)}


@pytest.mark.parametrize(("option", "test"), [*OF_THE_CORE.items(), *OF_THE_MOUNT.items(), *OF_THE_SERVER.items()])
def test_what_an_option_changes_is_shown(option: str, test: str) -> None:
    file, _, name = test.partition("::")
    assert name in functions_of(TESTS / file), f"--{option}: {test} is not there"
