"""The steps of features: a file for each kind of column, their common ground in step.py, their names in names.py."""

__all__: list[str] = []
