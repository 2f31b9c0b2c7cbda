"""Some of the clients of load.py, in a process of their own: a thread and a connection each, standard library only.

Comes in: one JSON object on stdin, then a line that says go. Goes out: one JSON object, how many seconds each submission took
and how often each status was answered. Beside the server and not beside whoever asks /health:
threads of one Python process wait for each other, and that would be measured with the answers.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TIMEOUT = 300.0


def post(connection: http.client.HTTPConnection, body: bytes) -> int:
    connection.request("POST", "/api/jobs", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def submit(order: dict[str, Any], numbers: list[int]) -> tuple[list[float], Counter[int]]:
    """One client's submissions, each twice: seconds of the first ones, and how often each status was answered.

    Before each of them it thinks, for `pause` seconds on average.
    """
    dice = random.Random(numbers[0] if numbers else 0)
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection(order["host"], order["port"], timeout=TIMEOUT)
    for number in numbers:
        if order["pause"]:
            time.sleep(dice.expovariate(1 / order["pause"]))
        settings = order["settings"] | {"seed": number}
        body = json.dumps({"picture": order["picture"], "settings": settings, "job_id": f"{order['name']}-{number}"})
        begin = time.perf_counter()
        statuses[post(connection, body.encode())] += 1
        taken.append(time.perf_counter() - begin)
        statuses[post(connection, body.encode())] += 1
    connection.close()
    return taken, statuses


def main() -> None:
    order = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(len(order["shares"])) as pool:
        told = list(pool.map(lambda numbers: submit(order, numbers), order["shares"]))
    statuses = sum((statuses for _, statuses in told), Counter[int]())
    print(json.dumps({"seconds": [one for taken, _ in told for one in taken], "statuses": statuses}))


if __name__ == "__main__":
    main()
