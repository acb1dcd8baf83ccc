"""Every rival by name. A rival's adapter is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.targets import Target

__all__ = ["RIVALS"]


def _mosec() -> Target:
    from bench.peers.mosec import Mosec

    return Mosec()


def _mosec_msgpack() -> Target:
    from bench.peers.mosec import MosecMsgpack

    return MosecMsgpack()


def _triton_py() -> Target:
    from bench.peers.triton import TritonPython

    return TritonPython()


def _bentoml() -> Target:
    from bench.peers.bentoml import BentoMl

    return BentoMl()


def _fastapi() -> Target:
    from bench.peers.fastapi import FastApi

    return FastApi()


def _flask() -> Target:
    from bench.peers.flask import Flask

    return Flask()


def _litserve() -> Target:
    from bench.peers.litserve import LitServe

    return LitServe()


def _mlserver() -> Target:
    from bench.peers.mlserver import MLServer

    return MLServer()


def _ray() -> Target:
    from bench.peers.ray import RayServe

    return RayServe()


def _torchserve() -> Target:
    from bench.peers.torchserve import TorchServe

    return TorchServe()


def _triton_native() -> Target:
    from bench.peers.triton import TritonNative

    return TritonNative()


RIVALS: Mapping[str, Callable[[], Target]] = {
    "triton-native": _triton_native,
    "triton-py": _triton_py,
    "mosec": _mosec,
    "mosec-msgpack": _mosec_msgpack,
    "bentoml": _bentoml,
    "fastapi": _fastapi,
    "flask": _flask,
    "litserve": _litserve,
    "mlserver": _mlserver,
    "ray": _ray,
    "torchserve": _torchserve,
}
