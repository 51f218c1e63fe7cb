"""May rows leave this machine? One rule for the teacher, the chat and the evaluated endpoints."""

import ipaddress
import os
from urllib.parse import urlsplit

from ..core.errors import TeacherError


def api_key() -> str:
    """The key of the endpoint, from the variable TEACHER_API_KEY; empty without one.

    Callers bind it to no name: a traceback may show the names of every function it passes.
    """
    return os.environ.get("TEACHER_API_KEY", "").strip()


def is_loopback(url: str) -> bool:
    """True when the URL points at this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_local_or_allowed(
    url: str, allow_remote: bool, name: str = "TEACHER_URL", sending: str = ""
) -> None:
    """Refuse a host that is not this machine unless `allow_remote`; a key needs TLS.

    `name` is the parameter that holds the URL. `sending` says what would be sent, such as
    "2 rows"; it is printed for a remote host. Raises `TeacherError`, and quotes no password.
    """
    if "@" in url:
        raise TeacherError(
            f"{name} holds a user name or password: give the key in the variable TEACHER_API_KEY"
            " instead"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname
        usable = usable and (parts.port is None or parts.port > 0)
        (parts.hostname or "").encode("idna")  # as the resolver will
    except ValueError:
        usable = False
    if not usable:
        raise TeacherError(
            f"{name} = {url!r} is no address: give the base URL of an OpenAI-compatible endpoint,"
            " such as http://127.0.0.1:8000/v1"
        )
    if is_loopback(url):
        return
    if sending:
        print(f"teacher: {sending} go to {parts.hostname}. Never send patient data.")
    if not allow_remote:
        raise TeacherError(
            f"{parts.hostname} is another machine: set ALLOW_REMOTE = True if what is sent may"
            " leave this machine; never send patient data"
        )
    if parts.scheme != "https" and api_key():
        raise TeacherError(
            f"the key would go to {parts.hostname} unencrypted: use https, or unset TEACHER_API_KEY"
        )
