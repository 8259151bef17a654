"""Reads the settings of each endpoint. A setting has one value for all endpoints, or a JSON object by address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import SecretStr

from ...config import Settings, json_object, per_endpoint
from ...errors import BadRequest
from .trouble import Address, Server

__all__ = ["EndpointSettings", "endpoint_settings"]


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The settings of one endpoint. Its `repr` shows no secret."""

    address: Address
    key: str = field(default="", repr=False)
    """The bearer token; empty: no token is sent."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers of every request."""
    server: Server = ""
    """The server behind a gateway; empty: the one that the endpoint names."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that are merged into every request for a page."""
    model: str = ""
    """The model that it must serve; empty: whichever it serves."""
    prompts: str = "auto"
    """`deepseek`, `words`, or `auto` to decide by the name of the model."""
    connections: int = 32
    """The number of requests at once."""
    proxy: str = field(default="", repr=False)
    """The HTTP proxy; empty: none."""


def endpoint_settings(settings: Settings) -> list[EndpointSettings]:
    """The endpoints that `OCR_REMOTE_URL` names, each with its settings.

    Raises:
        BadRequest: no endpoint is named, an entry is no address, or a setting names an address that is no endpoint.
    """
    if not settings.ocr_remote_url:
        raise BadRequest(
            "OCR_ENGINE=openai needs to know where to send pages.",
            remedy="Set OCR_REMOTE_URL to the address of an endpoint, like http://10.0.0.5:8000/v1.",
        )
    addresses = [Address.parse(url) for url in settings.ocr_remote_url]
    known = {address.base for address in addresses}
    keys = _by_address("OCR_REMOTE_KEY", per_endpoint(_plain(settings.ocr_remote_key)), known)
    servers = _by_address("OCR_REMOTE_SERVER", per_endpoint(settings.ocr_remote_server), known)
    entries = json_object(_plain(settings.ocr_remote_headers))
    own = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    common = {name: entry for name, entry in entries.items() if isinstance(entry, str)}
    headers = _by_address("OCR_REMOTE_HEADERS", own, known)
    return [
        EndpointSettings(
            address,
            key=keys.get(address.base, keys.get("", "")),
            headers={**common, **headers.get(address.base, {})},
            server=cast(Server, servers.get(address.base, servers.get("", ""))),
            fields=json_object(settings.ocr_remote_fields),
            model=settings.ocr_model,
            prompts=settings.ocr_remote_prompts,
            connections=settings.ocr_remote_concurrency,
            proxy=_plain(settings.ocr_remote_proxy),
        )
        for address in addresses
    ]


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _by_address(setting: str, values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """The values of a setting, by the address of an endpoint; the name "" stays."""
    found = {Address.parse(name).base if name else "": value for name, value in values.items()}
    if strangers := sorted(found.keys() - known - {""}):
        raise BadRequest(
            f"{setting} names {strangers[0]}, which OCR_REMOTE_URL does not name.",
            remedy="Write the address in both settings, or take it out of the first one.",
        )
    return found
