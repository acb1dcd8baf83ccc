"""`python -m penstock`: the same as the console script `penstock`."""

from penstock.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
