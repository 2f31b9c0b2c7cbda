"""The clients of load.py, in a process of their own: a connection each, one request at a time, standard library only.

Comes in: one JSON object on stdin, then a line that says go. Goes out: one JSON object, how many seconds each submission took
and how often each status was answered. One loop serves them all and reads no more of an answer than it must: what a
client computes, other machines' processors would compute, and here it would be measured with the answers.
"""

from __future__ import annotations

import json
import random
import re
import selectors
import socket
import sys
import time
from collections import Counter
from typing import Any

TIMEOUT = 300.0
HEAD_END = b"\r\n\r\n"


class Client:
    """Submits the jobs `numbers`, each twice. Before each of them it thinks, for `pause` seconds on average.

    `seconds` are what the first submissions took, from the first byte sent to the last byte received.
    """

    def __init__(self, order: dict[str, Any], numbers: list[int], selector: selectors.BaseSelector) -> None:
        self._order, self._left, self._selector = order, list(numbers), selector
        self._dice = random.Random(numbers[0] if numbers else 0)
        self._socket = self._connect()
        self._request, self._answer = b"", bytearray()
        self._begun = 0.0
        self._is_first, self._is_asking = True, False
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.due = self._thought()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((self._order["host"], self._order["port"]), TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, self)
        return connection

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()

    def _thought(self) -> float:
        """When the next job is submitted; never when there is none."""
        if not self._left:
            return float("inf")
        pause = self._order["pause"]
        return time.perf_counter() + (self._dice.expovariate(1 / pause) if pause else 0.0)

    def submit(self) -> None:
        if self._socket.fileno() < 0:
            self._socket = self._connect()
        number = self._left.pop(0)
        settings = self._order["settings"] | {"seed": number}
        job = {"picture": self._order["picture"], "settings": settings, "job_id": f"{self._order['name']}-{number}"}
        body = json.dumps(job).encode()
        head = (
            f"POST /api/jobs HTTP/1.1\r\nHost: {self._order['host']}:{self._order['port']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request, self.due = head.encode() + body, float("inf")
        self._send()

    def _send(self) -> None:
        self._answer.clear()
        self._is_asking = True
        self._begun = time.perf_counter()
        self._socket.sendall(self._request)

    def receive(self) -> None:
        """Take what has arrived; when that is a whole answer, say the same once more, or think."""
        arrived = self._socket.recv(1 << 16)
        if not arrived:
            # A server may end a connection on which nothing is asked for long; the next job has a new one.
            assert not self._is_asking, f"the server hung up after {bytes(self._answer)!r}"
            self.close()
            return
        self._answer += arrived
        head = self._answer.find(HEAD_END)
        if head < 0:
            return
        length = re.search(rb"\r\ncontent-length: *(\d+)", self._answer[:head], re.IGNORECASE)
        if length is None or len(self._answer) < head + len(HEAD_END) + int(length[1]):
            return
        self.statuses[int(self._answer[9:12])] += 1
        if self._is_first:
            self.seconds.append(time.perf_counter() - self._begun)
            self._is_first = False
            self._send()
        else:
            self._is_first, self._is_asking = True, False
            self.due = self._thought()


def submit(clients: list[Client], jobs: int, selector: selectors.BaseSelector) -> None:
    """Until each of the jobs was submitted twice."""
    while sum(sum(client.statuses.values()) for client in clients) < 2 * jobs:
        now = time.perf_counter()
        for client in clients:
            if client.due <= now:
                client.submit()
        due = min(client.due for client in clients)
        for key, _ in selector.select(min(TIMEOUT, max(0.0, due - time.perf_counter()))):
            key.data.receive()


def main() -> None:
    order = json.loads(sys.stdin.readline())
    with selectors.DefaultSelector() as selector:
        clients = [Client(order, numbers, selector) for numbers in order["shares"]]
        print("ready", flush=True)
        sys.stdin.readline()
        submit(clients, sum(map(len, order["shares"])), selector)
        for client in clients:
            client.close()
    statuses = sum((client.statuses for client in clients), Counter[int]())
    print(json.dumps({"seconds": [one for client in clients for one in client.seconds], "statuses": statuses}))


if __name__ == "__main__":
    main()
