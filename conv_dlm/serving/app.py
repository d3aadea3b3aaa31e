"""The routes of the server."""

import asyncio
import contextlib
import secrets
import time
from typing import Any

from conv_dlm.serving.errors import Refused
from conv_dlm.serving.queue import Worker
from conv_dlm.serving.replies import Reply
from conv_dlm.serving.requests import parse
from conv_dlm.serving.served import ServedModel

CLIENT_GONE = 499  # nobody reads this status
HEARD_OUT = 256  # times the size limit: how much of a larger body is read before the connection is closed


def build_app(served: ServedModel, worker: Worker, max_request_bytes: int, api_key: str | None = None) -> Any:
    """Build the FastAPI application.

    Args:
        served (`ServedModel`): the model that answers.
        worker (`Worker`): denoises; started and closed with the application.
        max_request_bytes (`int`): the largest request body.
        api_key (`str`, *optional*): the API key that clients must send.

    Returns:
        the `FastAPI` application.

    Raises:
        ImportError: the extra `serve` is not installed.
    """
    try:
        from fastapi import FastAPI, Request, Response
        from fastapi.exceptions import HTTPException
        from fastapi.responses import JSONResponse, StreamingResponse
    except ImportError as error:
        raise ImportError("Serving needs FastAPI and uvicorn: `pip install conv-dlm[serve]`.") from error

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> Any:
        worker.start()
        yield
        worker.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    started = int(time.time())

    def refusal(error: Refused) -> Response:
        # more of a too large body may be on its way
        return JSONResponse(error.body, error.status, {"Connection": "close"} if error.status == 413 else None)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return refusal(error)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def no_route(http: Request, error: HTTPException) -> Response:
        return refusal(Refused(f"{http.method} {http.url.path}: {error.detail}.", error.status_code))

    @app.exception_handler(500)
    async def failed(_: Request, error: Exception) -> Response:
        return refusal(Refused("The request failed; the server's log has the reason.", 500))

    async def answer(http: Request, endpoint: str) -> Response:
        check_key(http, api_key)
        request = parse(await read_body(http, max_request_bytes), endpoint)
        reply = Reply(served, request, endpoint)
        worker.submit(reply.rows)
        if request.stream:
            return StreamingResponse(reply.stream(), media_type="text/event-stream")
        whole, gone = asyncio.create_task(reply.whole()), asyncio.create_task(until_gone(http))
        try:
            await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
            return JSONResponse(whole.result()) if whole.done() else Response(status_code=CLIENT_GONE)
        finally:
            reply.abandoned = True
            whole.cancel()
            gone.cancel()

    @app.post("/v1/chat/completions")
    async def chat(http: Request) -> Response:
        return await answer(http, "chat")

    @app.post("/v1/completions")
    async def completion(http: Request) -> Response:
        return await answer(http, "completion")

    @app.get("/v1/models")
    async def models(http: Request) -> dict[str, Any]:
        check_key(http, api_key)
        model = {"id": served.name, "object": "model", "created": started, "owned_by": "conv-dlm"}
        return {"object": "list", "data": [model]}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": served.name, "waiting": worker.waiting}

    return app


def check_key(http: Any, api_key: str | None) -> None:
    """Raise Refused if a key is set and the request does not have it."""
    given = http.headers.get("authorization", "").removeprefix("Bearer ")
    # a header is read as Latin-1, whatever its bytes are
    if api_key is not None and not secrets.compare_digest(given.encode("latin-1"), api_key.encode()):
        raise Refused("The API key is missing or wrong; give the server's.", 401, code="invalid_api_key")


async def read_body(http: Any, most: int) -> bytes:
    """Read the body. Raises Refused if it is too large or not declared as JSON."""
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused("The request's Content-Type must be application/json.", 415)
    body, size = [], 0
    async for chunk in http.stream():  # read past the limit so that the client gets the answer, but not forever
        size += len(chunk)
        if size <= most:
            body.append(chunk)
        if size > HEARD_OUT * most:
            break
    if size > most:
        raise Refused(f"The request has {size} bytes or more, and this server takes {most}; shorten it.", 413)
    return b"".join(body)


async def until_gone(http: Any) -> None:
    """Wait until the client has closed the connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
