"""What becomes of a model's outputs: classes, numbers, and confidence that is calibrated."""

__all__: list[str] = []
