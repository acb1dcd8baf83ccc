"""Send the whole test split to a running server and check every answer: `python -m demo.client`.

Each answer must carry the label that the same model gives offline; one that does not makes the exit status 1.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.digits import MODEL, SIDE, TEST_SPLIT, Split, offline_labels

__all__ = ["main"]

SHADES = " ░▒▓█"  # Unicode's shade blocks, from white to black
INK_MAX = 16.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said about one digit, and how long it took."""

    label: int
    probability: float
    seconds: float


class AnswerError(Exception):
    """The server refused a digit; the message says how."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client; 0 when every answer was the offline one."""
    parser = argparse.ArgumentParser(prog="demo.client", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--connections", type=int, default=8, help="keep-alive connections, each with a thread")
    parser.add_argument("--rounds", type=int, default=5, help="how often the split is sent")
    options = parser.parse_args(arguments)

    split = Split.load(TEST_SPLIT)
    expected = offline_labels(MODEL, split.pixels)
    bodies = [json.dumps({"model": "digits", "inputs": row.tolist()}).encode() for row in split.pixels]
    started = time.perf_counter()
    try:
        answers = ask_all(options.host, options.port, bodies * options.rounds, options.connections)
    except (OSError, http.client.HTTPException, AnswerError) as error:
        print(
            f"http://{options.host}:{options.port} did not answer: {error}. Is `make serve` running?", file=sys.stderr
        )
        return 1
    elapsed = time.perf_counter() - started

    draw(split.pixels[0], answers[0], int(split.truth[0]))
    return report(answers, np.tile(expected, options.rounds), np.tile(split.truth, options.rounds), elapsed)


def ask_all(host: str, port: int, bodies: Sequence[bytes], connections: int) -> list[Answer]:
    """Send every body over `connections` keep-alive connections; the answers in the order of the bodies."""
    with ThreadPoolExecutor(connections) as threads:
        shares = threads.map(lambda first: ask_in_turn(host, port, bodies[first::connections]), range(connections))
        answers: list[Answer | None] = [None] * len(bodies)
        for first, share in enumerate(shares):
            answers[first::connections] = share
    return [answer for answer in answers if answer is not None]


def ask_in_turn(host: str, port: int, bodies: Sequence[bytes]) -> list[Answer]:
    """Send the bodies one after the other over one connection."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        return [ask(connection, body) for body in bodies]
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, body: bytes) -> Answer:
    """Send one digit; AnswerError when it is refused."""
    started = time.perf_counter()
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    payload = response.read()
    seconds = time.perf_counter() - started
    if response.status != http.HTTPStatus.OK:
        raise AnswerError(f"{response.status} {payload.decode(errors='replace')}")
    outputs = json.loads(payload)["outputs"]
    return Answer(label=int(outputs["label"]), probability=max(outputs["probabilities"]), seconds=seconds)


def report(answers: Sequence[Answer], expected: NDArray[np.int64], truth: NDArray[np.int64], elapsed: float) -> int:
    """Print accuracy, rate and latency; 1 when an answer differs from the offline one."""
    labels = np.array([answer.label for answer in answers], dtype=np.int64)
    p50, p99 = np.percentile([answer.seconds * 1e3 for answer in answers], [50, 99])
    wrong = np.flatnonzero(labels != expected)
    print(f"answers     {len(answers)}, {len(wrong)} of them not what the model answers offline")
    print(f"accuracy    {np.mean(labels == truth):.2%} served, {np.mean(expected == truth):.2%} offline")
    print(f"rate        {len(answers) / elapsed:,.0f} answers/s (this Python client is the limit, not the server)")
    print(f"latency     p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    for row in wrong[:5]:
        print(f"digit {row}: the server says {labels[row]}, the model says {expected[row]}", file=sys.stderr)
    return int(len(wrong) > 0)


def draw(pixels: NDArray[np.float32], answer: Answer, truth: int) -> None:
    """Draw one digit, two columns to a pixel because terminal cells are tall."""
    shades = np.rint(pixels / INK_MAX * (len(SHADES) - 1)).astype(int).reshape(SIDE, SIDE)
    for row in shades:
        print("    " + "".join(SHADES[shade] * 2 for shade in row))
    print(f"\n    the server says {answer.label} ({answer.probability:.1%} sure); it is a {truth}\n")


if __name__ == "__main__":
    sys.exit(main())
