"""The REST resources of the control plane."""

__all__: list[str] = []
