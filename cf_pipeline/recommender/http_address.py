"""Addresses of HTTP servers, taken apart so that no message about one tells its password."""

from __future__ import annotations

from urllib.parse import unquote, urljoin, urlsplit

from requests.auth import HTTPBasicAuth

from cf_pipeline.recommender.downloads import DownloadError


def address_and_login(base_url: str) -> tuple[str, HTTPBasicAuth | None]:
    """Return an address with a / at its end, and the user and password that were in it.

    Apart from the address, they are in no message about it.
    """
    parts = urlsplit(base_url) if scheme(base_url) in ("http", "https") else None
    # An @ behind the host is the end of a password that has a / or ? in it.
    if parts is None or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise DownloadError(
            "the address is not an http or https one; in its user and password, what is "
            "special must be written with %, / as %2F"
        )
    host = parts.netloc.rpartition("@")[2]
    user, password = (unquote(name or "").encode() for name in (parts.username, parts.password))
    address = parts._replace(netloc=host).geturl().rstrip("/") + "/"
    return address, HTTPBasicAuth(user, password) if user or password else None


def scheme(address: str, base: str = "") -> str:
    """Return the scheme of an address, relative to `base` perhaps; '' if it is malformed."""
    try:
        parts = urlsplit(urljoin(base, address))
        _ = parts.port  # fails if it is no number
    except ValueError:  # whose message may quote a password
        return ""
    return parts.scheme if parts.hostname else ""
