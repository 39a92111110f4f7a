"""A local S3 endpoint that can fail: moto's server behind a proxy that refuses, stalls, cuts or slows connections."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "bucket"
CHUNK = 1 << 16


class Mode(Enum):
    PASS = "pass"
    REFUSE = "connections are closed at once"
    STALL = "connections are taken, and nothing is answered"
    OVERLOADED = "every request is answered by 503 Slow Down"


class Endpoint:
    """An S3 endpoint on 127.0.0.1.

    Set `mode`, `bytes_per_second` of each connection's answers, or `cut_after`, the bytes of an answer after which a
    connection breaks, `cuts` times.
    """

    def __init__(self) -> None:
        self.mode, self.bytes_per_second = Mode.PASS, 0.0
        self.cut_after, self.cuts = 0, 0
        self.answered = 0
        """Total bytes of all answers so far."""
        self.reads = 0
        """Number of GET requests so far."""
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # A line for each request.
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self._target = self._moto.get_host_and_port()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), name="s3", daemon=True).start()
        ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def recover(self) -> None:
        self.mode, self.bytes_per_second, self.cuts = Mode.PASS, 0.0, 0

    @contextmanager
    def failing(self, mode: Mode) -> Iterator[None]:
        self.mode = mode
        try:
            yield
        finally:
            self.recover()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._moto.stop()

    async def _end(self) -> None:
        served = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.mode is Mode.PASS:
                behind = await asyncio.open_connection(*self._target)
                await asyncio.gather(self._pass(reader, behind[1]), self._answer(behind[0], writer))
            elif self.mode is Mode.STALL:
                await asyncio.sleep(3600)
            elif self.mode is Mode.OVERLOADED:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            self._check()
            self.reads += chunk.startswith(b"GET ")
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while chunk := await reader.read(CHUNK):
            self._check()
            sent += len(chunk)
            if self.cuts and sent > self.cut_after:
                self.cuts -= 1
                raise ConnectionResetError
            self.answered += len(chunk)  # Before the client has it, which may then reset the count.
            writer.write(chunk)
            await writer.drain()
            if self.bytes_per_second:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
        writer.close()

    def _check(self) -> None:
        """Raises ConnectionResetError if the endpoint is failing: open connections fail like new ones."""
        if self.mode is not Mode.PASS:
            raise ConnectionResetError


@contextmanager
def s3_endpoint() -> Iterator[Endpoint]:
    """Yields an endpoint with a bucket; the environment of this process and its children names the endpoint."""
    endpoint = Endpoint()
    settings = {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    try:
        yield endpoint
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
        endpoint.close()
