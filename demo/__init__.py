"""The demo of `make serve`: a real model on scikit-learn's handwritten digits, and a client that checks it."""

__all__: list[str] = []
