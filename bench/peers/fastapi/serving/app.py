"""The FastAPI application; runs inside FastAPI's environment."""

import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from given import predictors

app = FastAPI()
models = predictors()


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Answer when the models are loaded."""
    return {}


@app.post("/models/{name}")
async def predict(name: str, request: Request) -> JSONResponse:
    """Run a batch of one row on the event loop: a thread costs more than a small model."""
    (answer,) = models[name].run_rows([await request.json()])
    return JSONResponse(answer)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
