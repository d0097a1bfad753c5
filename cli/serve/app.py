"""The application: paths, what they answer, and what goes wrong."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from nstx.engine.archive.limits import MOST_UPLOADS
from nstx.engine.jobs.records import State
from nstx.engine.service.refusals import Refusal
from nstx.engine.service.service import Service
from nstx.models.version import __version__

from .forms import UploadTimeout, discard, read_key, reading_form
from .guards import GUARDED, Access, Guard
from .metrics import Measured, Metrics
from .problems import MEDIA_TYPE, handle_problems, respond
from .schemas import EVENT, FORM, LINKS, Health, Job, JobPage, Problem, ServiceInfo
from .streaming import Streams

PAGE = Path(__file__).with_name("page")
_MOST_JOBS = 100  # of a page
_TYPES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif",
    ".tiff": "image/tiff",
}  # fmt: skip


def make_app(service: Service, access: Access, metrics: Metrics) -> FastAPI:
    """Return the application of a service that is open."""
    app = FastAPI(
        title="nstx", version=__version__, docs_url=None, redoc_url=None,
        description="Neural style transfer as a service: docs/serve.md.",
    )  # fmt: skip
    handle_problems(app)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(Guard, access=access)  # the outer one
    _add_submission(app, service)
    _add_jobs(app, service)
    _add_events(app, service)
    _add_pictures(app, service)
    _add_standing(app, service, metrics)
    if access.token is not None:
        _say_token(app)
    if PAGE.is_dir():
        app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how errors are documented; any path may be refused by its Host or token, or have a fault."""
    every = sorted({*statuses, 401, 405, 421, 500, 503})
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content} for status in every}


def _say_token(app: FastAPI) -> None:
    """Have OpenAPI say which paths want a token."""
    paths = app.openapi()
    paths["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, methods in paths["paths"].items():
        if path.startswith(GUARDED):
            for operation in methods.values():
                operation["security"] = [{"token": []}]


def _add_submission(app: FastAPI, service: Service) -> None:
    uploads = _Uploads()

    @app.post(
        "/v1/jobs", status_code=202, openapi_extra=FORM, summary="Ask for a picture",
        responses={202: {"model": Job, "links": LINKS}, **_problems(400, 403, 408, 409, 413, 415, 422, 429, 507)},
    )  # fmt: skip
    async def submit(request: Request) -> Response:
        try:
            key = read_key(request)
            service.check_open()
            with uploads:
                async with reading_form(request, service.limits.max_upload) as form:
                    record, is_new = await run_in_threadpool(
                        service.submit, form.files, form.options, key
                    )
        except UploadTimeout:
            detail = "expected a form within two minutes, got a slower one; try smaller pictures"
            return respond("upload-timeout", detail, "/v1/jobs", headers={"Connection": "close"})
        except Refusal:
            await discard(request, service.limits.max_upload)
            raise
        body = service.describe(record)
        headers = {"Location": body["links"]["self"]}
        return JSONResponse(
            body, 202, headers if is_new else {**headers, "Idempotency-Replayed": "true"}
        )


def _add_jobs(app: FastAPI, service: Service) -> None:
    @app.get("/v1/jobs", response_model=JobPage, responses=_problems(422), summary="List jobs")
    async def list_jobs(
        status: State | None = None,
        limit: Annotated[int, Query(ge=1, le=_MOST_JOBS)] = 20,
        cursor: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
    ) -> Response:
        records = service.page(None if cursor is None else int(cursor), limit + 1, status)
        more = str(records[limit - 1].number) if len(records) > limit else None
        return JSONResponse(
            {"jobs": [service.describe(record) for record in records[:limit]], "next": more}
        )

    @app.get(
        "/v1/jobs/{job}", response_model=Job, responses=_problems(404), summary="A job", operation_id="get_job",
    )  # fmt: skip
    async def get_job(job: str) -> Response:
        return JSONResponse(service.describe(service.find(job)))

    async def cancel(job: str) -> Response:
        record = await run_in_threadpool(service.cancel, job)
        return JSONResponse(service.describe(record))

    changes = {"response_model": Job, "responses": _problems(403, 404), "summary": "Cancel a job"}
    app.delete("/v1/jobs/{job}", operation_id="delete_job", **changes)(cancel)  # type: ignore[arg-type]
    app.post("/v1/jobs/{job}/cancel", operation_id="cancel_job", **changes)(cancel)  # type: ignore[arg-type]


def _add_events(app: FastAPI, service: Service) -> None:
    streams = Streams(service)

    @app.get(
        "/v1/jobs/{job}/events", summary="What happens to a job, as it does", response_class=Response,
        operation_id="get_events",
        responses={
            200: {"content": {"text/event-stream": {"schema": EVENT}}},
            204: {"description": "There is no more to tell."}, **_problems(400, 404),
        },
    )  # fmt: skip
    async def events(request: Request, job: str, after: str | None = None) -> Response:
        return streams.respond(request, job, after)


def _add_pictures(app: FastAPI, service: Service) -> None:
    jpeg = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "As before."}}

    def add(name: str, summary: str) -> None:
        @app.get(
            f"/v1/jobs/{{job}}/{name}", summary=summary, response_class=Response, operation_id=name,
            responses={200: {"content": jpeg}, **unchanged, **_problems(404)},
        )  # fmt: skip
        async def shown(request: Request, job: str) -> Response:
            return send_file(request, service.shown(job, f"{name}.jpg"))

    add("preview", "The picture as it develops")
    add("before", "The photograph at the result's size")
    pictures = dict.fromkeys(_TYPES.values(), jpeg["image/jpeg"])

    @app.get(
        "/v1/jobs/{job}/result", summary="The picture", response_class=Response, operation_id="result",
        responses={200: {"content": pictures}, **unchanged, **_problems(404, 409)},
    )  # fmt: skip
    async def result(request: Request, job: str) -> Response:
        path = service.picture(job)
        return send_file(request, path, _name_download(service, job, path.suffix))


def _name_download(service: Service, job: str, suffix: str) -> str | None:
    """Return what a job's picture is called where it is saved, after its photograph."""
    name = service.describe(service.find(job))["name"]
    return None if name is None else f"{Path(name).stem}{suffix}"


def send_file(request: Request, path: Path, name: str | None = None) -> Response:
    """Return a picture, of a name for whoever saves it; 304 where whoever asks has it already."""
    try:
        status = path.stat()
    except OSError as error:
        raise Refusal("not-found", "expected a picture that is kept, got none") from error
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(
        path, media_type=_TYPES[path.suffix], headers=headers, stat_result=status, filename=name,
        content_disposition_type="inline",
    )  # fmt: skip


def _add_standing(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get(
        "/v1/service", response_model=ServiceInfo, responses=_problems(), summary="What may be asked for",
    )  # fmt: skip
    async def info() -> Response:
        return JSONResponse(service.describe_service())

    @app.get("/livez", response_model=Health, responses=_problems(), summary="Does it answer?")
    async def livez() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=Health, responses=_problems(), summary="Does it take jobs?")
    async def readyz() -> Response:
        trouble = service.trouble
        if trouble is not None:
            detail = f"expected a server that takes jobs, got: {trouble}"
            return respond("unavailable", detail, "/readyz", headers={"Retry-After": "2"})
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics", response_class=Response, summary="For Prometheus",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_problems()},
    )  # fmt: skip
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")


class _Uploads:
    """Counts the uploads that come at a time; `Refusal` of one too many."""

    def __init__(self) -> None:
        self._open = 0

    def __enter__(self) -> None:
        if self._open >= MOST_UPLOADS:
            raise Refusal(
                "queue-full",
                f"expected at most {MOST_UPLOADS} uploads at a time, got one more; try again",
                retry_after=1,
            )
        self._open += 1

    def __exit__(self, *_: object) -> None:
        self._open -= 1
