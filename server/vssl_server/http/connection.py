"""Uvicorn's HTTP protocol, made safe against its clients.

It writes an answer once instead of twice, limits what a client may send and how long it may take, and keeps the order
of answers for refusals too. It ignores `Upgrade`, as a server may: uvicorn's parser would take the request's body for
the next request.
"""

import asyncio
from enum import Enum, auto
from http import HTTPStatus

import httptools
from starlette.responses import Response
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from vssl_server.http.transport import GatheringTransport
from vssl_server.models.registry import ModelRegistry
from vssl_server.wire.errors import ApiError

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, and of all else that is no body. The last read may bring a little more."""

MAX_PIPELINED = 100
"""Requests of a connection that wait for the answer to the one before. Each takes a hundred times its bytes."""

IDLE_SECONDS = 75
"""How long an idle connection is kept: longer than clients and balancers keep theirs (httpx 5, AWS 60). So they close
it, and no request meets a connection that is being closed here.
"""

LAST_LOOK_SECONDS = 0.01
"""A busy loop runs its timers before it reads. So an idle connection is closed after one more look."""

APPLICATION_FIRST_SECONDS = 1.0
"""The application refuses a late body first, in its protocol's own shape; the connection ends so long after."""

REFUSALS = {
    "head_timeout": (408, "the request's head did not come in time"),
    "body_timeout": (408, "the request's body did not come in time"),
    "head_too_large": (431, f"the request's line and headers are over {MAX_HEAD_BYTES // 1024} KiB"),
    "invalid_http": (400, "this is no valid HTTP request"),
    "pipeline_full": (429, f"over {MAX_PIPELINED} requests wait on this connection for the answer to the one before"),
    "connect": (501, "CONNECT is not supported: this server is no proxy"),
}
"""Status and message by cause, where there is no request that the application could answer."""


class Part(Enum):
    """What the parser is in the middle of."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class Protocol(HttpToolsProtocol):
    """One connection. Its application has `state.registry`, whose settings say how long a head may take."""

    url = b""  # until a first one comes
    _part = Part.NOTHING
    _message = 0
    """How many have begun."""
    _timer: asyncio.TimerHandle | None = None
    """While the client owes us the rest of a head or of a body: `_owed` says of which."""
    _owed: tuple[Part, int] | None = None
    _progress = False
    """Whether this read brought the end of a head, some body, or the end of a message."""
    _overhead = 0
    """Bytes since then."""
    _upgrading = False
    _running: RequestResponseCycle | None = None
    """The request that is being answered, or the last that was."""
    _refusal: str | None = None
    """Why the connection ends once the earlier requests are answered. What comes now is ignored."""
    _gathering: GatheringTransport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the gathering of writes between uvicorn and the connection."""
        self._gathering = GatheringTransport(transport, self.loop)
        super().connection_made(self._gathering)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, and set the timer for what must come next."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._progress = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse("invalid_http")
        self._overhead = 0 if self._progress else self._overhead + len(data)
        if self._overhead > MAX_HEAD_BYTES:
            self._refuse("head_too_large")
        self._watch()

    def _feed(self, data: bytes | memoryview) -> None:
        while self._refusal is None:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse("connect")
                    return
                data = memoryview(data)[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self._upgrading = False
                self.parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        """The head that was just parsed, in bytes again, as if the client had not asked for another protocol."""
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(token for token in value.split(b",") if token.strip().lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """A request begins."""
        self._unset_keepalive_if_required()
        self._part = Part.HEAD
        self._message += 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; those behind a body would be taken for those of the head."""
        if self._part is Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._part, self._progress = Part.BODY, True
        if self._refusal is not None:
            return
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) >= MAX_HEAD_BYTES:
            self._refuse("head_too_large")  # it came in one read; uvicorn can't parse so long a URL either
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse("pipeline_full")
            return
        super().on_headers_complete()
        if self._registry.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        self._progress = True
        if self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole; if its request was refused before, the connection is idle from now on."""
        if self._upgrading:
            return
        self._part, self._progress = Part.NOTHING, True
        if self._refusal is not None:
            return
        super().on_message_complete()
        if self.cycle.response_complete:
            self._be_idle()

    def on_response_complete(self) -> None:
        """An answer is written: next come the following request, or the refusal of what followed."""
        super().on_response_complete()
        if self._refusal is not None:
            if not self._busy:
                self._end()
        elif not self.transport.is_closing():
            if self._part is not Part.NOTHING:
                self._unset_keepalive_if_required()
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless its client still reads or a request turns out to be there."""
        if self.transport.get_write_buffer_size() and not self._registry.draining:
            self._be_idle()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(LAST_LOOK_SECONDS, super().timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._owe(None)
        self._unset_keepalive_if_required()
        self._gathering.lost()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: what has come is answered, and an idle connection closed after one more look."""
        if self._busy:
            super().shutdown()
        else:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_handler()

    @property
    def _registry(self) -> ModelRegistry:
        registry: ModelRegistry = self.config.app.state.registry  # type: ignore[union-attr]
        return registry

    @property
    def _busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _should_upgrade(self) -> bool:
        return False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _be_idle(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _watch(self) -> None:
        """Start the timer for what the client must send next; it runs on if that has not changed."""
        if self._refusal is not None or self.transport.is_closing():
            self._owe(None)
        elif self.pipeline:
            self._owe(None)  # we don't read on before the one in front is answered
        elif self._message == 0:
            self._owe(Part.HEAD)
        else:
            self._owe(None if self._part is Part.NOTHING else self._part)  # an idle connection has its own timer

    def _owe(self, part: Part | None) -> None:
        owed = part and (part, self._message)
        if owed != self._owed:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if part is not None:
                seconds = self._registry.settings.receive_seconds
                if part is Part.BODY:
                    self._timer = self.loop.call_later(
                        seconds + APPLICATION_FIRST_SECONDS, self._refuse, "body_timeout"
                    )
                else:
                    self._timer = self.loop.call_later(seconds, self._refuse, "head_timeout")
            self._owed = owed

    def _refuse(self, cause: str) -> None:
        """End the connection, as soon as the requests before the one at fault are answered."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._refusal = cause
        self._owe(None)
        self._unset_keepalive_if_required()
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()  # the newest, whose body is at fault
        elif not self._busy or self.cycle.more_body:
            self._end()

    def _end(self) -> None:
        """Answer the refused request, unless it has an answer already, and close."""
        assert self._refusal is not None
        running = self._running
        if running is None or not (running.more_body and running.response_started):
            status, message = REFUSALS[self._refusal]
            error = ApiError(status, self._refusal, message)
            self.transport.write(_last(error.response(self.url.decode("ascii", "replace"))))
        self._gathering.end()


def _last(answer: Response) -> bytes:
    """A connection's last answer, in bytes."""
    status = HTTPStatus(answer.status_code)
    headers = [*answer.raw_headers, (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])
