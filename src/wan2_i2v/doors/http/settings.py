"""How the HTTP door is set: flags of `wan2-i2v serve`, then environment variables `WAN2_I2V_*`, then these defaults.

A leaf of the door: no FastAPI here, so that the command line reads its defaults without loading a server.
"""

from __future__ import annotations

import ipaddress

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MEGABYTE = 2**20


class HttpSettings(BaseSettings):
    """Sizes in bytes, times in seconds. `WAN2_I2V_TOKEN` may hold several tokens with commas between them."""

    model_config = SettingsConfigDict(env_prefix="WAN2_I2V_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    token: SecretStr = SecretStr("")
    without_token: bool = False
    """Listen beyond this machine without a token: for a container whose port is published to the loopback only."""
    advertised_url: str = ""
    """How programs on this machine reach the server, told in the lock file of its device; needed where that is not the
    address listened on, as between containers."""
    allowed_hosts: str = ""
    """Names, with commas between them, that a server without a token may be addressed by; addresses always may."""
    trusted_hosts: str = ""
    """Hosts, as `name` or `name:port` with commas between them, that picture URLs and webhooks may name although they
    are private."""
    webhook_secret: SecretStr = SecretStr("")

    max_body_bytes: int = 48 * MEGABYTE
    max_upload_bytes: int = 32 * MEGABYTE
    max_buffered_bytes: int = 512 * MEGABYTE
    """All bodies that are being received, together."""
    max_pixels: int = 64_000_000
    body_seconds: float = 120.0
    fetch_seconds: float = 30.0
    max_redirects: int = 3

    requests_per_second: float = 50.0
    burst: int = 500
    max_queued_per_client: int = 2_000
    max_streams: int = 512

    @property
    def tokens(self) -> tuple[str, ...]:
        return _listed(self.token.get_secret_value())

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(name.lower() for name in _listed(self.allowed_hosts))

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset(name.lower() for name in _listed(self.trusted_hosts))

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the address that is listened on."""
        return not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine only; other names count as public."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
