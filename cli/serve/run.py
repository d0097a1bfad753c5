"""What ``nstx serve`` does with its options: a service, a server for it, and an end that loses nothing."""

import contextlib
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstx.engine.archive.limits import ServiceLimits
from nstx.models.errors import OutputError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input
from nstx.models.values import describe

from ..console import Console

if TYPE_CHECKING:
    from nstx.engine.service.service import Service

    from .asking import Limits, Serving
    from .guards import Access

TOKEN_VARIABLE = "NSTX_SERVE_TOKEN"
_SHORTEST, _LONGEST = 16, 4096  # characters of a token
_ENDING = 1  # seconds that answers have when the server ends
_LISTENING = 2.0


def run_server(
    serving: "Serving", limits: "Limits", machine: dict[str, Any], console: Console
) -> None:
    """Serve until a signal comes."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import sse_starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"expected the packages of a server, got none of {error.name}; try pip install 'nstx[serve]'"
        ) from error
    from nstx.engine.service.service import Service

    from .guards import is_loopback
    from .metrics import Metrics

    names = {name: getattr(limits, name) for name in ServiceLimits.__dataclass_fields__}
    access = choose_access(serving, is_local=is_loopback(serving.host))
    metrics = Metrics()
    service = Service(
        serving.state or default_state(), ServiceLimits(**names),
        machine={name: value for name, value in machine.items() if value is not None},
        workers=serving.workers, together=serving.batch, observe=metrics.observe,
    )  # fmt: skip
    with _listen(serving.host, serving.port) as listening:
        address = _address(serving.host, listening.getsockname()[1])
        with service, answering(service, access, metrics, listening) as thread:
            _announce(console, address, service)
            if serving.open:
                webbrowser.open(address)
            while thread.is_alive():
                thread.join(0.5)


def default_state() -> Path:
    """Return where a server keeps what it has, unless it is named."""
    from platformdirs import user_data_path

    return user_data_path("nstx", appauthor=False) / "serve"


def choose_access(serving: "Serving", *, is_local: bool) -> "Access":
    """Return who may ask; `UsageError` where everybody could."""
    from .guards import Access

    token = _read_token(serving.token_file)
    if token is None and not is_local:
        raise UsageError(
            f"expected a token for an address beyond this machine, {describe(serving.host)}, got none; try --token-file "
            f"FILE, {TOKEN_VARIABLE} in the environment, or --host 127.0.0.1",
            setting="host",
        )
    return Access(token=token) if is_local else Access(token=token, names=None)


def _read_token(path: Path | None) -> str | None:
    if path is None:
        token = os.environ.get(TOKEN_VARIABLE)
    else:
        data = read_input(path, kind="a token", most_bytes=_LONGEST, error=UsageError)
        token = data.decode("ascii", "replace").strip()
    if token is None:
        return None
    if not (_SHORTEST <= len(token) <= _LONGEST and token.isascii() and token.isprintable()):
        raise UsageError(
            f"expected a token of {_SHORTEST} … {_LONGEST} characters of ASCII, got {len(token)}; try 'openssl rand -hex 32'",
            setting="token_file",
        )
    return token


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"expected an address that is free, got {printable(host)}:{port}: {reason}; try --port 0"
        ) from error
    with listening:
        yield listening


@contextlib.contextmanager
def answering(
    service: "Service", access: "Access", metrics: Any, listening: socket.socket
) -> Iterator[threading.Thread]:
    """Answer requests in a thread for the time of a block; at its end the workers keep what they do first."""
    import uvicorn

    from .app import make_app
    from .protocol import Protocol

    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # It warns of every form that it cannot read, which is answered.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    metrics.follow(service)
    config = uvicorn.Config(
        make_app(service, access, metrics), log_config=None, access_log=False, server_header=False, lifespan="off",
        ws="none", http=Protocol, timeout_graceful_shutdown=_ENDING, h11_max_incomplete_event_size=32 << 10, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    # Signals are the main thread's, which ends this one.
    thread = threading.Thread(target=server.run, args=([listening],), name="nstx-http", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        service.drain()
        server.should_exit = True
        thread.join(_ENDING + _LISTENING)


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _announce(console: Console, address: str, service: "Service") -> None:
    data = {"url": address, "state": str(service.folder.path), "workers": service.choice.workers}
    console.result(data, lambda data: f"nstx serves at {data['url']}; Ctrl-C ends it")
