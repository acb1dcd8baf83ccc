"""What every other part may import: errors, the problem catalogue, settings, and what a model's state looks like."""

__all__: list[str] = []
