"""The command line of the benchmarks: `python -m bench --help`."""

from bench.cli import app

if __name__ == "__main__":
    app(prog_name="python -m bench")
