"""The settings of a server and of its models, frozen once read. docs/configuration.md explains each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from penstock.core.devices import ALL_GPUS, CPU, visible_gpus
from penstock.core.settings import CpuSet, Device, Flag, Location, Name, OneOf, Share, Size, Text, Texts, Whole, Wholes

__all__ = [
    "BackendName",
    "Convert",
    "ImageLayout",
    "LogFormat",
    "LogLevel",
    "ModelConfig",
    "OnWorkerDeath",
    "Precision",
    "Scheduling",
    "ServerConfig",
]

_MIB = 1 << 20
_HOUR_MS = 3_600_000
_YEAR_S = 365 * 86_400


class BackendName(StrEnum):
    """What runs a model; `auto` decides by the model's file."""

    AUTO = "auto"
    ONNX = "onnx"
    TORCH = "torch"
    TENSORRT = "tensorrt"
    TENSORFLOW = "tensorflow"
    SKLEARN = "sklearn"
    XGBOOST = "xgboost"
    MLFLOW = "mlflow"
    PYTHON = "python"


class Convert(StrEnum):
    """What a model is made into when it is loaded, to run faster."""

    NONE = "none"
    ONNX = "onnx"
    COMPILE = "compile"
    AOT_INDUCTOR = "aot-inductor"
    REFIT = "refit"


class Precision(StrEnum):
    """What a network computes in. Weights and tensors keep their types."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class OnWorkerDeath(StrEnum):
    """What becomes of the rows that a dead worker held."""

    RERUN = "rerun"
    FAIL = "fail"


class Scheduling(StrEnum):
    """Which rule a worker takes batches by. Round robin exists to compare with."""

    DEADLINE = "deadline"
    ROUND_ROBIN = "round-robin"


class ImageLayout(StrEnum):
    """Where a tensor that takes images has its channels."""

    HWC = "hwc"
    CHW = "chw"


class LogFormat(StrEnum):
    """How log records are written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least important record that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model version to serve, and how."""

    name: Annotated[str, Name()]
    path: Annotated[Path, Location()]
    version: Annotated[str, Name(reserved=("latest",))] = "1"
    backend: Annotated[BackendName, OneOf(BackendName)] = BackendName.AUTO
    # The ring's batch word has 13 bits for rows and 6 for the owning worker.
    max_batch_size: Annotated[int, Whole(1, 4096, "rows")] = 64
    max_queue_delay_us: Annotated[int, Whole(0, 10_000_000, "microseconds")] = 0
    batch_sizes: Annotated[tuple[int, ...], Wholes(1, 4096, "rows")] = ()
    reproducible_batch_size: Annotated[int | None, Whole(1, 4096, "rows")] = None
    lengths: Annotated[tuple[int, ...], Wholes(1, 1 << 20, "elements")] = ()
    max_batch_tokens: Annotated[int, Whole(0, (1 << 31) - 1, "rows x length")] = 0
    string_bytes_max: Annotated[int, Size(0, 1 << 30)] = 0
    image_layout: Annotated[ImageLayout | None, OneOf(ImageLayout)] = None
    slo_ms: Annotated[int, Whole(0, _HOUR_MS, "milliseconds")] = 0
    weight: Annotated[int, Whole(1, 10_000)] = 100
    cache_ttl_s: Annotated[int, Whole(0, _YEAR_S, "seconds")] = 0
    cache_shared: Annotated[bool, Flag()] = False
    group: Annotated[str | None, Name()] = None
    queue_bytes: Annotated[int, Size(4096, 1 << 40)] = 64 * _MIB
    # The 64th slot of a ring is the quarantine worker's.
    instances: Annotated[int, Whole(1, 63)] = 1
    on_worker_death: Annotated[OnWorkerDeath | None, OneOf(OnWorkerDeath)] = None
    load_timeout_s: Annotated[int, Whole(1, 86_400, "seconds")] = 120
    warmup_s: Annotated[int, Whole(0, 3600, "seconds")] = 1
    intra_op_threads: Annotated[int, Whole(1, 1024)] = 1
    cpus: Annotated[tuple[int, ...], CpuSet()] = ()
    numa_node: Annotated[int | None, Whole(0, 1023)] = None
    device: Annotated[str, Device()] = CPU
    precision: Annotated[Precision, OneOf(Precision)] = Precision.FLOAT32
    convert: Annotated[Convert, OneOf(Convert)] = Convert.NONE
    memory_bytes: Annotated[int, Size(0, 1 << 50)] = 0
    trusted_digests: Annotated[tuple[str, ...], Texts("a list of SHA-256 digests in hexadecimal", r"[0-9a-f]{64}")] = ()
    trusted_types: Annotated[tuple[str, ...], Texts("a list of types, such as ['package.module.Class']")] = ()
    content_digest: str = ""  # of its files, where it is known

    @property
    def workers(self) -> int:
        """How many processes serve it: its instances, on every GPU where it runs on all of them."""
        return self.instances * max(visible_gpus(), 1) if self.device == ALL_GPUS else self.instances

    @property
    def reproducible_rows(self) -> int:
        """How many rows a reproducible batch has: as configured, else as few as may be."""
        return self.reproducible_batch_size or (self.batch_sizes[0] if self.batch_sizes else 1)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything that `penstock serve` needs to know."""

    models: tuple[ModelConfig, ...] = ()
    model_defaults: Mapping[str, object] = field(default_factory=dict)  # what was said once for all models
    host: Annotated[str, Text("a host name or an IP address")] = "127.0.0.1"
    port: Annotated[int, Whole(0, 65535)] = 8000
    grpc_port: Annotated[int | None, Whole(0, 65535)] = None
    unix_socket: Annotated[Path | None, Location(socket=True)] = None
    tls_cert: Annotated[Path | None, Location()] = None
    tls_key: Annotated[Path | None, Location()] = None
    io_threads: Annotated[int, Whole(1, 64)] = 1
    io_cpus: Annotated[tuple[int, ...], CpuSet()] = ()
    decode_threads: Annotated[int, Whole(1, 64)] = 1
    scheduling: Annotated[Scheduling, OneOf(Scheduling)] = Scheduling.DEADLINE
    max_connections: Annotated[int, Whole(1, 1_000_000)] = 4096
    reserved_connections: Annotated[int, Whole(0, 100_000)] = 32
    head_bytes_max: Annotated[int, Size(1024, _MIB)] = 8192
    control_body_bytes_max: Annotated[int, Size(1024, 1 << 40)] = 16 * _MIB
    body_pool_bytes: Annotated[int, Size(_MIB, 1 << 40)] = 128 * _MIB
    cache_bytes: Annotated[int, Size(_MIB, 1 << 40)] = 64 * _MIB
    cache_redis: Annotated[str | None, Text("redis://HOST:PORT/DATABASE, rediss://... or unix:///PATH")] = None
    cache_redis_timeout_ms: Annotated[int, Whole(1, 10_000, "milliseconds")] = 20
    idle_timeout_ms: Annotated[int, Whole(1, _HOUR_MS, "milliseconds")] = 75_000
    head_timeout_ms: Annotated[int, Whole(1, _HOUR_MS, "milliseconds")] = 10_000
    body_timeout_ms: Annotated[int, Whole(1, _HOUR_MS, "milliseconds")] = 30_000
    write_timeout_ms: Annotated[int, Whole(1, _HOUR_MS, "milliseconds")] = 30_000
    request_timeout_ms: Annotated[int, Whole(1, _HOUR_MS, "milliseconds")] = 60_000
    cors_origins: Annotated[
        tuple[str, ...],
        Texts(
            "a list of origins, such as ['https://app.example', 'http://localhost:3000'], or ['*']",
            r"\*|[a-z][a-z0-9+.-]{0,15}://[a-z0-9._:\[\]-]{1,81}",
        ),
    ] = ()
    compress: Annotated[bool, Flag()] = False
    compress_min_bytes: Annotated[int, Size(0, 1 << 30)] = 1024
    drain_timeout_s: Annotated[int, Whole(0, 3600, "seconds")] = 30
    data_dir: Annotated[Path | None, Location()] = None
    store: Annotated[str | None, Text("sqlite:///PATH or postgresql://USER@HOST/DATABASE")] = None
    artefacts: Annotated[str | None, Text("a folder, or a URL that fsspec knows")] = None
    development: Annotated[bool, Flag()] = False
    require_key: Annotated[bool, Flag()] = False
    preload: Annotated[tuple[str, ...], Texts("a list of models, such as ['digits', 'segment@2.0.0']")] = ()
    memory_budget_bytes: Annotated[int, Size(0, 1 << 50)] = 0
    standby_s: Annotated[int, Whole(0, 86_400, "seconds")] = 300
    repository: Annotated[Path | None, Location()] = None
    repository_poll_s: Annotated[int, Whole(1, 86_400, "seconds")] = 10
    log_format: Annotated[LogFormat, OneOf(LogFormat)] = LogFormat.TEXT
    log_level: Annotated[LogLevel, OneOf(LogLevel)] = LogLevel.INFO
    access_log: Annotated[str, Text("'off', '-' for standard output, or a path")] = "off"
    access_log_sample: Annotated[float, Share()] = 1.0
    trace_endpoint: Annotated[str | None, Text("the URL of an OTLP collector, such as http://localhost:4318")] = None
    trace_sample: Annotated[float, Share()] = 0.01
    trace_service_name: Annotated[str | None, Text("a name")] = None
