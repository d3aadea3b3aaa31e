"""What a client is told when a request is not answered, in OpenAI's shape."""

from typing import Any

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that gets an error for an answer.

    Args:
        message (`str`): for the client: what is wrong with which value, and what to do.
        status (`int`, *optional*, defaults to `400`): of HTTP.
        param (`str`, *optional*): the field that is wrong.
        code (`str`, *optional*): a word for programs.
    """

    def __init__(self, message: str, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
