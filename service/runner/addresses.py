"""Addresses of Dask schedulers and the certificates that guard them (decisions B2)."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from farfield.errors import ConfigError
from farfield.service.campaign.config import ClusterSection

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = ["check_address", "security_of"]


def check_address(address: str, *, insecure: bool) -> None:
    """Refuse what is not encrypted, unless it stays on this host or `insecure` is said. Raises ConfigError."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        known = parts.scheme in ("tcp", "tls", "ws", "wss", "ucx") and parts.port is not None
    except ValueError:
        known, host = False, ""
    if not known or not host:
        raise ConfigError(f"{address!r} is not a scheduler address; write tls://host:8786", key="cluster.scheduler")
    if parts.scheme in ("tls", "wss") or insecure or _is_loopback(host):
        return
    raise ConfigError(
        f"{address} is not encrypted: anybody on the network could run code there; use tls:// or set "
        "cluster.insecure = true",
        key="cluster.scheduler",
    )


def security_of(section: ClusterSection, base: Path) -> Security | None:
    """The certificates that `section` names, their paths counted from `base`; None where it names none.

    Raises ConfigError for a file that cannot be read, and for tls:// without certificates.
    """
    from distributed.security import Security

    files = {"ca": section.tls_ca, "cert": section.tls_cert, "key": section.tls_key}
    given = {k: base / v for k, v in files.items() if v is not None}
    address = str(section.scheduler)
    if not given:
        if address.startswith(("tls://", "wss://")):
            raise ConfigError(
                f"{address} asks for certificates; give cluster.tls_ca, tls_cert and tls_key (PEM files)",
                key="cluster.tls_ca",
            )
        return None
    for key, path in given.items():
        try:
            path.read_bytes()
        except OSError as fault:
            raise ConfigError(
                f"cannot read {path} ({fault.strerror}); mend cluster.tls_{key}", key=f"cluster.tls_{key}"
            ) from None
    paths = {k: str(v) for k, v in given.items()}
    return Security(
        tls_ca_file=paths["ca"],
        tls_client_cert=paths["cert"],
        tls_client_key=paths["key"],
        require_encryption=True,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        try:
            return all(ipaddress.ip_address(a[4][0]).is_loopback for a in socket.getaddrinfo(host, None))
        except OSError:
            return False
