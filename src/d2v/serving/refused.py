"""A request that gets no answer, with its HTTP status and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

CODES = {
    HTTPStatus.BAD_REQUEST: "INVALID_PARAMETER_VALUE",
    HTTPStatus.NOT_FOUND: "ENDPOINT_NOT_FOUND",
    HTTPStatus.CONFLICT: "RESOURCE_CONFLICT",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
    HTTPStatus.GATEWAY_TIMEOUT: "TEMPORARILY_UNAVAILABLE",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
}
"""MLflow's names of errors; of all other statuses it has BAD_REQUEST."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        reason: one sentence that ends with what to send instead.
        headers: further ones of the response.
    """

    def __init__(self, status: HTTPStatus, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})

    @property
    def body(self) -> bytes:
        """As MLflow writes errors."""
        return json.dumps({"error_code": CODES.get(self.status, "BAD_REQUEST"), "message": self.reason}).encode()


def bad(reason: str) -> Refused:
    """Status 400."""
    return Refused(HTTPStatus.BAD_REQUEST, reason)
