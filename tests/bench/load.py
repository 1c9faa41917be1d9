"""Send requests that were made before, over connections that stay open: what an endpoint costs, how long it takes."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def _connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connected


def _exchange(connected: socket.socket, data: bytes) -> None:
    """Send a request whose answer has no body. Raises `RuntimeError` when it is not a 204."""
    connected.sendall(data)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        block = connected.recv(4096)
        if not block:
            raise RuntimeError("the connection was closed")
        answer += block
    if not answer.startswith(b"HTTP/1.1 204 "):
        raise RuntimeError(f"answered {answer[:40]!r}")


def exchange_once(port: int, data: bytes) -> None:
    """Send one request on a connection of its own."""
    with _connection(port) as connected:
        _exchange(connected, data)


def as_fast_as_answered(port: int, requests: Sequence[bytes], seconds: float, connections: int = 8) -> int:
    """Send for so long, the next request when the one before is answered; return how many were answered."""
    ends = time.monotonic() + seconds

    def send(first: int) -> int:
        count = 0
        with _connection(port) as connected:
            while time.monotonic() < ends:
                _exchange(connected, requests[(first + count) % len(requests)])
                count += 1
        return count

    with ThreadPoolExecutor(connections) as pool:
        return sum(pool.map(send, range(0, len(requests), -(-len(requests) // connections))))


def at_a_rate(
    port: int, requests: Sequence[bytes], per_second: float, seconds: float, connections: int = 16
) -> list[float]:
    """Send at fixed moments, whatever was answered; return how long each took in seconds, from its moment on."""
    began = time.monotonic() + 0.1
    moments = iter([began + number / per_second for number in range(int(per_second * seconds))])
    lock = threading.Lock()
    taken: list[float] = []

    def send(number: int) -> None:
        with _connection(port) as connected:
            while True:
                with lock:
                    moment = next(moments, None)
                if moment is None:
                    return
                time.sleep(max(0.0, moment - time.monotonic()))
                _exchange(connected, requests[number])
                taken.append(time.monotonic() - moment)

    with ThreadPoolExecutor(connections) as pool:
        for ended in [pool.submit(send, number % len(requests)) for number in range(connections)]:
            ended.result()
    return taken
