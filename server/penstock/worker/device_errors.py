"""What goes wrong with a device, apart from what uses one: known before NumPy is imported."""

from __future__ import annotations

__all__ = ["DeviceLostError", "DeviceMemoryError"]


class DeviceLostError(Exception):
    """The device does nothing more for this process, which must end: another one runs the batches again."""


class DeviceMemoryError(MemoryError):
    """The device has no room left for what was asked. What the host has is another matter."""
