"""A certificate authority and a server certificate for loopback, made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """Files in PEM: the server's certificate, its key, both in one, and the authority to trust."""

    certificate: Path
    key: Path
    combined: Path
    authority: Path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def make_certificate(directory: Path, *, expired: bool = False) -> Certificate:
    """Make both in ``directory``; valid for localhost, 127.0.0.1 and ::1, for a week (which may be over)."""
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30 if expired else 0)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def built(subject: str, of: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(_name("portside test authority"), _name(subject), of.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=7))
        return builder.add_extension(extension, critical=False).sign(ca_key, hashes.SHA256())

    authority = built("portside test authority", ca_key, x509.BasicConstraints(ca=True, path_length=0))
    loopback = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    server = built("localhost", key, x509.SubjectAlternativeName([x509.DNSName("localhost"), *loopback]))
    pem = server.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Certificate(directory / "cert.pem", directory / "key.pem", directory / "both.pem", directory / "ca.pem")
    made.certificate.write_bytes(pem)
    made.key.write_bytes(secret)
    made.combined.write_bytes(secret + pem)
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for private in (made.key, made.combined):
        private.chmod(0o600)
    return made
