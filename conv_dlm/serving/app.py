"""The routes of the server."""

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from conv_dlm.serving.errors import Refused
from conv_dlm.serving.queue import Worker
from conv_dlm.serving.replies import Reply
from conv_dlm.serving.requests import Request as Asked
from conv_dlm.serving.requests import parse
from conv_dlm.serving.served import Prompt, ServedModel
from conv_dlm.serving.threads import in_thread

log = logging.getLogger("conv_dlm.serving")
CLIENT_GONE = 499  # nobody reads this status
HEARD_OUT = 256  # times the size limit: how much of a larger body is read before the connection is closed
PREPARED_AT_ONCE = 4  # requests that are read and tokenized beside the event loop
IGNORED = "X-Ignored-Fields"  # header of an answer


def build_app(
    served: ServedModel,
    worker: Worker,
    max_request_bytes: int,
    api_key: str | None = None,
    only_here: bool = False,
) -> Any:
    """Build the FastAPI application.

    Args:
        served (`ServedModel`): the model that answers.
        worker (`Worker`): denoises; started and closed with the application.
        max_request_bytes (`int`): the largest request body.
        api_key (`str`, *optional*): the API key that clients must send.
        only_here (`bool`, *optional*, defaults to `False`): whether the server listens for this machine alone; then a
            request that was sent to another name is refused, unless it has the key. So a web page that lets its own
            name lead to this machine gets no answers.

    Returns:
        the `FastAPI` application.

    Raises:
        ValueError: the API key is empty.
        ImportError: the extra `serve` is not installed.
    """
    try:
        from fastapi import FastAPI, Request, Response
        from fastapi.exceptions import HTTPException
        from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
        from starlette.requests import ClientDisconnect
    except ImportError as error:
        raise ImportError("Serving needs FastAPI and uvicorn: `pip install conv-dlm[serve]`.") from error
    check_api_key(api_key)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> Any:
        worker.start()
        yield
        worker.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    started, room = int(time.time()), asyncio.Semaphore(PREPARED_AT_ONCE)
    model = {"id": served.name, "object": "model", "created": started, "owned_by": "conv-dlm"}

    def refusal(error: Refused) -> Response:
        # more of a too large body may be on its way
        return JSONResponse(error.body, error.status, {"Connection": "close"} if error.status == 413 else None)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return refusal(error)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def no_route(http: Request, error: HTTPException) -> Response:
        place = http.url.path if len(http.url.path) < 200 else f"{http.url.path[:200]}…"
        return refusal(Refused(f"{http.method} {place}: {error.detail}.", error.status_code))

    @app.exception_handler(500)
    async def failed(_: Request, error: Exception) -> Response:
        return refusal(Refused("The request failed; the server's log has the reason.", 500))

    def prepare(raw: bytes, endpoint: str) -> tuple[Asked, list[Prompt]]:
        """What takes long in a request, after what limits it."""
        request = parse(raw, endpoint, worker.check_room)
        return request, served.prompts(request)

    async def answer(http: Request, endpoint: str) -> Response:
        begun, status = time.monotonic(), CLIENT_GONE
        streams = False
        try:
            admit(http, api_key, only_here)
            raw = await read_body(http, max_request_bytes)
            request, prompts = await in_thread(lambda: prepare(raw, endpoint), room)
            reply = Reply(served, request, prompts, endpoint)
            worker.submit(reply.rows)
            headers = {IGNORED: ", ".join(map(_printable, request.ignored))} if request.ignored else {}
            if request.ignored:
                log.warning("Unknown fields of a request were ignored: %s", headers[IGNORED])
            if request.stream:
                streams, events = True, counted(reply.stream(), endpoint, begun)
                return StreamingResponse(events, media_type="text/event-stream", headers=headers)
            response = await whole(http, reply, headers)
            status = response.status_code
            return response
        except Refused as error:
            status = error.status
            raise
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        finally:
            if not streams:
                worker.metrics.request(endpoint, status, time.monotonic() - begun)

    async def whole(http: Request, reply: Reply, headers: dict[str, str]) -> Response:
        made, gone = asyncio.create_task(reply.whole()), asyncio.create_task(until_gone(http))
        try:
            await asyncio.wait({made, gone}, return_when=asyncio.FIRST_COMPLETED)
            return JSONResponse(made.result(), 200, headers) if made.done() else Response(status_code=CLIENT_GONE)
        finally:
            reply.abandoned = True
            made.cancel()
            gone.cancel()

    async def counted(events: AsyncIterator[str], endpoint: str, begun: float) -> AsyncIterator[str]:
        status = CLIENT_GONE
        try:
            async for event in events:
                yield event
            status = 200
        finally:
            worker.metrics.request(endpoint, status, time.monotonic() - begun)
            await events.aclose()  # type: ignore[attr-defined]

    @app.post("/v1/chat/completions")
    async def chat(http: Request) -> Response:
        return await answer(http, "chat")

    @app.post("/v1/completions")
    async def completion(http: Request) -> Response:
        return await answer(http, "completion")

    @app.get("/v1/models")
    async def models(http: Request) -> dict[str, Any]:
        admit(http, api_key, only_here)
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def one_model(http: Request, name: str) -> dict[str, Any]:
        admit(http, api_key, only_here)
        served.check_model(name)
        return model

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        status, code = ("stopping", 503) if worker.stopping else ("ok", 200)
        return JSONResponse({"status": status, "model": served.name, "waiting": worker.waiting}, code)

    @app.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics() -> Response:
        now = {"conv_dlm_waiting": worker.waiting, "conv_dlm_running": worker.running}
        return PlainTextResponse(worker.metrics.text(now), media_type="text/plain; version=0.0.4")

    return app


def check_api_key(api_key: str | None) -> None:
    """Raise ValueError for a key that nobody would be kept out by, or that no header can have."""
    if api_key is not None and not api_key.strip():
        raise ValueError("The API key is empty; give one, or none at all (unset the variable CONV_DLM_API_KEY).")


def admit(http: Any, api_key: str | None, only_here: bool) -> None:
    """Raise Refused if a key is set and the request does not have it, or if it was sent to a stranger's name."""
    if api_key is None:
        if only_here and not _is_here(http.url.hostname):
            name = _printable(str(http.url.hostname))
            raise Refused(
                f"This server is for this machine alone, and has no name like {name}; ask 127.0.0.1, or start it with "
                "an API key.", 403,
            )  # fmt: skip
        return
    scheme, _, given = http.headers.get("authorization", "").partition(" ")
    # a header is read as Latin-1, whatever its bytes are
    right = secrets.compare_digest(given.strip().encode("latin-1"), api_key.encode("utf-8", "surrogateescape"))
    if scheme.lower() != "bearer" or not right:
        raise Refused("The API key is missing or wrong; give the server's.", 401, code="invalid_api_key")


def _is_here(host: str | None) -> bool:
    """Whether a host's name is one that only this machine can mean, or an address, which no page can lead elsewhere."""
    if host is None or host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _printable(name: str) -> str:
    """A name from outside as a header or a log may have it: quoted as in an address, and never empty."""
    return quote(name[:64], safe="") or '""'


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
