"""The compiled modules: `_kernels` and `_batcher` for workers, `_dataplane` for the main process."""

__all__: list[str] = []
