"""`python -m bench.spikes.grpc`: CPU of the server per unary request, each server under the same load of h2load.

Needs g++, libnghttp2-dev, nghttp2-client (h2load) and tritonclient[grpc]. `--at PORT PID` measures a server that runs
already, such as Penstock with a model 'digits' of 64 float32 values.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATH = "/inference.GRPCInferenceService/ModelInfer"
TICKS = os.sysconf("SC_CLK_TCK")


def request_body(model: str, tensor: str, elements: int) -> bytes:
    """Return a ModelInferRequest of one row, with the five bytes that gRPC puts before a message."""
    from tritonclient.grpc import service_pb2

    message: bytes = service_pb2.ModelInferRequest(
        model_name=model,
        inputs=[service_pb2.ModelInferRequest.InferInputTensor(name=tensor, datatype="FP32", shape=[1, elements])],
        raw_input_contents=[bytes(4 * elements)],
    ).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def load(port: int, body: Path, requests: int) -> float:
    """Send the requests over 4 connections with 16 streams each; return the seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        [
            *("h2load", "-n", str(requests), "-c", "4", "-m", "16", "-d", str(body)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{PATH}"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    if f"{requests} succeeded" not in done.stdout:
        raise SystemExit(f"h2load: not all requests were answered:\n{done.stdout}")
    return time.monotonic() - began


def measure(name: str, port: int, pid: int, body: Path, requests: int) -> None:
    """Print one line: microseconds of the server's CPU per request, and the rate."""
    load(port, body, max(requests // 10, 100))
    costs = []
    for _ in range(3):
        before = cpu_seconds(pid)
        seconds = load(port, body, requests)
        costs.append(((cpu_seconds(pid) - before) / requests * 1e6, requests / seconds))
    cost, rate = min(costs)
    print(f"{name:34} {cost:8.1f} us of CPU  {rate:9.0f} requests/s", flush=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(port: int) -> None:
    """Return when somebody listens."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit(f"nobody listens on port {port}")


def main() -> None:
    """Measure all servers, or the one that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", nargs=2, type=int, metavar=("PORT", "PID"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--tensor", default="x")
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(request_body(arguments.model, arguments.tensor, 64))
        if arguments.at:
            port, pid = arguments.at
            measure("the server at that port", port, pid, body, arguments.requests)
            return
        native = Path(folder, "native")
        subprocess.run(["g++", "-O2", "-std=c++20", "-o", native, HERE / "native.cpp", "-lnghttp2"], check=True)
        python = [sys.executable, str(HERE / "python_server.py")]
        servers: list[tuple[str, list[str], list[str], int]] = [
            ("nghttp2 in C++, parsed by hand", [str(native)], [], 10 * arguments.requests)
        ]
        for mode in ("sync", "asyncio"):
            for kind in ("bytes", "messages"):
                servers.append((f"grpcio {mode}, {kind}", python, [mode, kind], arguments.requests // 5))
        for name, command, rest, requests in servers:
            port = free_port()
            with subprocess.Popen([*command, str(port), *rest]) as server:
                try:
                    wait_for(port)
                    measure(name, port, server.pid, body, requests)
                finally:
                    server.terminate()


if __name__ == "__main__":
    main()
