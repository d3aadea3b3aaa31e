"""Errors that clients receive, in OpenAI's shape."""

from typing import Any

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request was rejected, or failed.

    Args:
        message (`str`): tells the client which value is wrong, why, and what to do.
        status (`int`, *optional*, defaults to `400`): the HTTP status.
        param (`str`, *optional*): the wrong field.
        code (`str`, *optional*): a machine-readable code.
    """

    def __init__(self, message: str, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
