"""The routes of the Open Inference Protocol, for the interface description."""

from __future__ import annotations

from penstock.control.openapi_parts import Json, operation

__all__ = ["OIP_PATHS"]

_IN_MEMORY = ("model_not_found", "model_unavailable", "invalid_input")


def _told(name: str, summary: str, answer: str, *codes: str, takes: tuple[str, ...] = ()) -> Json:
    """Describe a route that only tells something."""
    return {"get": operation(name, f"{summary} (Open Inference Protocol)", answer, codes=codes, takes=takes)}


def _of_model(suffix: str, name: str, summary: str, answer: str) -> Json:
    """Describe a route of a model, and the same of one of its versions."""
    return {
        f"/v2/models/{{name}}{suffix}": _told(name, summary, answer, *_IN_MEMORY, takes=("Name",)),
        f"/v2/models/{{name}}/versions/{{version}}{suffix}": _told(
            f"{name}OfVersion",
            f"{summary}, of a version",
            answer,
            *_IN_MEMORY,
            "version_not_found",
            takes=("Name", "Version"),
        ),
    }


OIP_PATHS: Json = {
    "/v2": _told("describeServer", "Who answers, and with which extensions", "OipServer", "invalid_input"),
    **_of_model("", "describeModelTensors", "A model's tensors", "OipModel"),
    **_of_model("/config", "describeModelConfig", "How a model is run", "OipConfig"),
    **_of_model("/stats", "readModelStatistics", "What a model's rows and batches took", "OipStatistics"),
    "/v2/models/stats": _told(
        "readStatistics", "What all models' rows and batches took", "OipStatistics", "invalid_input"
    ),
}
