"""`python -m penstock.cli`: the same as the console script `penstock`."""

from penstock.cli.commands import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
