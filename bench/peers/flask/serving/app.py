"""The Flask application on gevent's server; runs inside Flask's environment."""

import socket
import sys
from typing import Any

from flask import Flask, request
from gevent import socket as gevent_socket
from gevent.pywsgi import WSGIServer
from given import predictors

BACKLOG = 1024

app = Flask(__name__)
models = predictors()


@app.get("/ready")
def ready() -> dict[str, str]:
    """Answer when the models are loaded."""
    return {}


@app.post("/models/<name>")
def predict(name: str) -> dict[str, Any]:
    """Run a batch of one row."""
    (answer,) = models[name].run_rows([request.get_json()])
    return answer


def serve(port: int) -> None:
    """Serve for ever, with TCP_NODELAY: head and body go out in two writes, 40 ms apart without it."""
    listener = gevent_socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    WSGIServer(listener, app, log=None).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
