"""A server that runs: whether it is there, ready and of our version, and what the key may do."""

from __future__ import annotations

import re
from pathlib import Path

import penstock_client
from penstock import __version__
from penstock.cli.asking import client_of, has_key
from penstock.cli.doctor.checks import Check, Checks, fault, installing, ok, warning, within

__all__ = ["server_checks"]

_SECONDS = 10.0
_ROLE = re.compile(r"has the role (\w+)")


def server_checks(url: str, key_file: Path | None) -> Checks:
    """Ask the server at a URL."""
    with client_of(url, key_file, timeout_s=_SECONDS) as client:
        try:
            server = within(2 * _SECONDS, client.server)
        except (penstock_client.TransportError, TimeoutError) as error:
            text = getattr(error, "detail", str(error))
            yield fault("server", f"{url}: {text}", "penstock serve ...  # or --url, where the server is")
            return
        except penstock_client.RefusedError as error:
            if error.status not in (401, 403):
                yield fault("server", f"{url}: {error.detail}", f"curl -i {url}/health")
                return
            # A wrong key is refused also where none is needed.
            without = "and refuses this key" if has_key(key_file) else "and lets nobody in without a key"
            yield ok("server", f"{url} answers, {without}")
            shut = True
        else:
            yield _version(url, server["version"])
            shut = False
        yield _readiness(url, client)
        yield _role(client, key_file, shut=shut)


def _version(url: str, version: str) -> Check:
    if version == __version__:
        return ok("server", f"{url} is Penstock {version}, as is this")
    text = f"{url} is Penstock {version}, and this is {__version__}"
    return warning("server", text, installing(version))


def _readiness(url: str, client: penstock_client.Client) -> Check:
    try:
        if within(2 * _SECONDS, client.ready):
            return ok("readiness", "ready")
        text = "it is not ready: a model loads, or cannot be loaded"
    except TimeoutError as error:
        text = str(error)
    return warning("readiness", text, f"penstock models list --url {url}")


def _role(client: penstock_client.Client, key_file: Path | None, *, shut: bool) -> Check:
    # Listing keys needs the highest role; a refusal says which one there is.
    try:
        within(2 * _SECONDS, client.keys.list)
    except penstock_client.RefusedError as error:
        role = _ROLE.search(error.detail)
        if role is not None:
            return ok("key", f"has the role {role[1]}")
        if error.status == 401 and has_key(key_file):
            text = "the server does not know it, and refuses all that comes with it"
            return fault("key", text, "penstock keys create NAME --role operator")
        if error.status == 401 and shut:
            text = "none: this server answers nobody without one, predictions neither"
            return fault("key", text, "penstock keys create NAME --role predict  # and export PENSTOCK_API_KEY=...")
        if error.status == 401:
            return ok("key", "none: it is needed to administer", "penstock keys create NAME --role operator")
        return warning("key", error.detail, "penstock keys list")
    except (penstock_client.TransportError, TimeoutError) as error:
        return warning("key", f"the server does not say: {error}", "penstock keys list")
    return ok("key", "has the role admin" if has_key(key_file) else "none, and none is needed: development mode")
