"""Commands about the session: data connections, transfers, the working directory.

Part of a session (see :mod:`.handler`), in its thread.
"""

from __future__ import annotations

import posixpath
import socket
from typing import Any

from mountcore.errors import NotFound, StorageError
from mountcore.stage import Publish

from .files import Download, Upload
from .handler import Answer
from .login_commands import LoginCommands
from .ports import ActivePort, PassivePort, listen_for_data, plain_address
from .replies import quoted, upload_refusal
from .settings import TlsMode
from .transfer import DataChannel


class SessionCommands(LoginCommands):
    """See the module."""

    # data connections

    def _before_data(self) -> None:
        if self.server.settings.tls.mode is TlsMode.REQUIRE and not self.data_protected:
            raise Answer("521 Data connections have to be private here; send PBSZ 0 and PROT P.")
        self._give_up_transfer("another data connection was asked for")

    def _give_up_transfer(self, why: str) -> bool:
        """End what was asked for and has not ended; its reply comes first. Answers whether there was anything."""
        waiting = self._withdraw()
        channel, self.data_channel = self.data_channel, None
        running = channel is not None and channel.active
        if channel is not None:
            channel.close()
        if waiting or running:
            self.respond(f"426 Transfer aborted: {why}.")
        return waiting or running

    def _make_epasv(self, extmode: bool = False) -> None:
        self._before_data()
        self._shutdown_connecting_dtp()
        local = self.socket.getsockname()
        try:
            sock = listen_for_data(local, self.passive_range)
        except OSError as problem:
            self.log(f"no port of {self.passive_range} is free: {problem}", self.loud)
            raise Answer("425 No passive port is free; try again later.") from None
        port = sock.getsockname()[1]
        if extmode:
            reply = f"229 Entering extended passive mode (|||{port}|)."
        else:
            host = self.server.public_address(plain_address(local[0]), self.remote_ip)
            if ":" in host:
                sock.close()
                raise Answer("425 PASV cannot name an IPv6 address; use EPSV.")
            reply = f"227 Entering passive mode ({host.replace('.', ',')},{port // 256},{port % 256})."
        self._dtp_acceptor = PassivePort(self, sock)
        self.respond(reply)

    def ftp_EPSV(self, line: str) -> None:
        mine = "2" if ":" in plain_address(self.socket.getsockname()[0]) else "1"
        if line.lower() == "all":
            self._epsvall = True
            self.respond("220 Other commands other than EPSV are now disabled.")
        elif line in ("", mine):
            self._make_epasv(extmode=True)
        elif line in ("1", "2"):
            raise Answer(f"522 Network protocol not supported (use {mine}).")
        else:
            raise Answer(f"501 Unknown network protocol (use {mine}).")

    def _make_eport(self, ip: str, port: int) -> None:
        if not self.server.settings.allow_active:
            raise Answer("502 Active mode is disabled; use PASV or EPSV.")
        self._before_data()
        host = plain_address(ip)
        if host != self.remote_ip and not self.permit_foreign_addresses:
            raise Answer("501 Rejected data connection to foreign address.")
        if port < 1024:
            raise Answer(f'501 PORT against the privileged port "{port}" refused.')
        self._shutdown_connecting_dtp()
        self._dtp_connector = ActivePort(host, port, self)

    def data_connected(self, sock: socket.socket) -> None:
        """The client's data connection is there."""
        self._dtp_acceptor = None
        channel = self.dtp_handler(sock, self)
        if channel.connected:
            self.data_channel = channel
            self._on_dtp_connection()
        elif self._withdraw():  # it was reset before we saw it
            self.respond("426 The connection broke; transfer aborted.")

    def no_data_connection(self) -> None:
        """The client did not connect in time."""
        self._dtp_acceptor = None
        if self._withdraw():
            self.respond("425 The data connection was not made in time.")

    # transfers

    def _ready_for_transfer(self) -> None:
        if self._dtp_acceptor is not None:  # clients connect before they ask, and it would be seen after
            self._dtp_acceptor.look()
        if self.data_channel is not None and self.data_channel.active:
            raise Answer("425 Another transfer is running.")
        if self._in_dtp_queue is not None or self._out_dtp_queue is not None:
            raise Answer("425 Another transfer waits for its data connection.")

    def _can_connect(self) -> bool:
        return self.data_channel is not None or self._dtp_acceptor is not None or self._dtp_connector is not None

    def ftp_RETR(self, line: str) -> None:
        offset, self._restart_position = self._restart_position, 0
        path = self.path(line, "r")
        self._ready_for_transfer()
        opened = self.attempt(self.storage.try_open, self.storage.open, path, offset)
        download = Download(path, opened, self.ioloop)
        if offset > opened.size:
            download.close()
            raise Answer(f"554 REST position ({offset}) > file size ({opened.size}).")
        self._need_connection(download)
        self.push_dtp_data(download, isproducer=True, file=download, cmd="RETR")

    def ftp_STOR(self, line: str) -> None:
        offset, self._restart_position = self._restart_position, 0
        path = self.path(line, "w")
        how = Publish.OVERLAY if offset else Publish.REPLACE
        self._receive(path, "STOR", how, offset)

    def ftp_APPE(self, line: str) -> None:
        if self._restart_position:
            raise Answer("450 Can't APPE while REST request is pending.")
        self._receive(self.path(line, "a"), "APPE", Publish.APPEND, 0)

    def ftp_STOU(self, line: str) -> None:
        if self._restart_position:
            raise Answer("450 Can't STOU while REST request is pending.")
        path = self.path(line, "w") if line else posixpath.join(self.path("", "w"), "ftpd")
        directory, prefix = posixpath.split(path)
        unique = self.call(self.storage.unused_name, directory, prefix + ".")
        self._receive(unique, "STOU", Publish.REPLACE, 0, f"FILE: {posixpath.basename(unique)}")

    def _announce(self, note: str = "") -> DataChannel | None:
        """Say that a transfer begins; answers the data connection if it is there.

        The client may have gone: then the session is closed when this returns.
        """
        channel = self.data_channel
        if channel is not None:
            self.respond(f"125 {note or 'Data connection already open. Transfer starting.'}")
        else:
            self.respond(f"150 {note or 'File status okay. About to open data connection.'}")
        return channel

    def _need_connection(self, file: Download | Upload | None = None) -> None:
        """Raise 425 where there is neither a data connection nor a way to get one."""
        if not self._can_connect():
            if file is not None:
                file.close()
            raise Answer("425 Use PASV, EPSV, PORT or EPRT first.")

    def push_dtp_data(self, data: Any, isproducer: bool = False, file: Any = None, cmd: str | None = None) -> None:
        self._need_connection()
        with self.together():
            channel = self._announce()
            if self._closed:
                if file is not None:
                    file.close()
            elif channel is None:
                self._out_dtp_queue = (data, isproducer, file, cmd or "")
            else:
                channel.file_obj, channel.cmd = file, cmd or ""
                (channel.push_with_producer if isproducer else channel.push)(data)
                channel.close_when_done()

    def _receive(self, path: str, cmd: str, how: Publish, offset: int, note: str = "") -> None:
        self._ready_for_transfer()
        try:
            staged = self.attempt(self.storage.try_stage, self.storage.stage, path)
        except StorageError as problem:
            raise Answer(upload_refusal(problem)) from None
        upload = Upload(path, staged, self.storage, how, offset, self.ioloop)
        if offset and not staged.exists:
            upload.close()
            raise NotFound(path)
        if offset > staged.size:
            upload.close()
            raise Answer(f"554 REST position ({offset}) > file size ({staged.size}).")
        self._need_connection(upload)
        channel = self._announce(note)
        if self._closed:
            upload.close()
        elif channel is None:
            self._in_dtp_queue = (upload, cmd)
        else:
            channel.file_obj = upload
            channel.enable_receiving(self._current_type, cmd)

    def ftp_REST(self, line: str) -> None:
        if self._current_type == "a":
            raise Answer("501 Resuming transfers not allowed in ASCII mode.")
        if not (line.isascii() and line.isdigit() and len(line) < 20):
            raise Answer("501 Invalid parameter.")
        self._restart_position = int(line)
        self.respond(f"350 Restarting at position {self._restart_position}.")

    def ftp_ABOR(self, line: str) -> None:
        waiting = self._dtp_acceptor is not None or self._dtp_connector is not None or self.data_channel is not None
        aborted = self._give_up_transfer("ABOR")
        self._shutdown_connecting_dtp()
        if aborted:
            self.respond("226 ABOR command successful.")
        elif waiting:
            self.respond("225 ABOR command successful; data channel closed.")
        else:
            self.respond("225 No transfer to abort.")

    def ftp_TYPE(self, line: str) -> None:
        kind = line.upper().replace(" ", "")
        if kind in ("A", "AN", "L7"):
            self._current_type = "a"
            self.respond("200 Type set to: ASCII.")
        elif kind in ("I", "L8"):
            self._current_type = "i"
            self.respond("200 Type set to: Binary.")
        else:
            self.respond(f'504 Unsupported type "{line}".')

    def ftp_ALLO(self, line: str) -> None:
        self.respond("202 No storage allocation necessary.")

    # the working directory

    def ftp_PWD(self, line: str) -> None:
        self.respond(f"257 {quoted(self.fs.cwd)} is the current directory.")

    def ftp_CWD(self, line: str) -> None:
        path = self.path(line or "/", "e")
        self.attempt(self.storage.try_directory, self.storage.directory, path)
        self.fs.cwd = path
        self.respond(f"250 {quoted(path)} is the current directory.")

    def ftp_CDUP(self, line: str) -> None:
        self.ftp_CWD("..")

    def session_state(self) -> list[str]:
        """What STAT shows of the session."""
        lines = [f"Connected to: {plain_address(self.socket.getsockname()[0])}:{self.socket.getsockname()[1]}"]
        if self.authenticated:
            lines.append(f"Logged in as: {self.username}")
        else:
            lines.append("Waiting for password." if self.username else "Waiting for username.")
        kind = "ASCII" if self._current_type == "a" else "Binary"
        lines.append(f"TYPE: {kind}; STRUcture: File; MODE: {'Stream' if self.compression is None else 'Compressed'}")
        if self.secured:
            lines.append(f"Encrypted: {self.socket.version()}; data: {'private' if self.data_protected else 'clear'}")
        channel: Any = self.data_channel
        if self._dtp_acceptor is not None:
            lines.append("Passive data channel waiting for connection.")
        elif channel is not None:
            lines += [
                "Data connection open:",
                f"Total bytes sent: {channel.tot_bytes_sent}",
                f"Total bytes received: {channel.tot_bytes_received}",
                f"Transfer elapsed time: {channel.get_elapsed_time():.1f} secs",
            ]
            if channel.settling:
                lines.append("The upload is complete and being stored.")
        else:
            lines.append("Data connection closed.")
        return lines
