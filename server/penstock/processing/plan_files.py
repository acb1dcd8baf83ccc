"""Where plans lie, and what they need beside them: known without what reads them, since most models have none."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile

__all__ = ["FILE_BYTES_MAX", "FILE_NAMES", "files_of", "find_plan", "misspelt_plan"]

FILE_NAMES = ("processing.json", "processing.toml")
# Target encodings of a hundred thousand categories fit.
FILE_BYTES_MAX = 64 << 20
# Of the name of a file and that of a plan: a letter is missing, or two are in each other's place. A file named
# preprocessing.json is something else.
_LIKENESS_MIN = 0.93


def find_plan(path: Path) -> Path | None:
    """Return the plan of the model at `path`: processing.json or .toml in its folder, or beside a single file.

    Beside `net.onnx`, `net.processing.json` comes first: several models may lie in one folder. ModelLoadError when
    there is one of each: nobody could tell which of them counts.
    """
    folder = path if path.is_dir() else path.parent
    for prefix in ("",) if path.is_dir() else (f"{path.stem}.", ""):
        found = [file for name in FILE_NAMES if (file := folder / f"{prefix}{name}").is_file()]
        if len(found) > 1:
            raise ModelLoadError(f"{found[0]} and {found[1].name} are two plans of one model: take one of them away")
        if found:
            return found[0]
    return None


def misspelt_plan(path: Path) -> tuple[Path, str] | None:
    """Return a file that is nearly called as the plan of the model at `path` would be, and what that name is."""
    folder, prefix = (path, "") if path.is_dir() else (path.parent, f"{path.stem}.")
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        given = file.name.removeprefix(prefix)
        # What has a dot before is that of another model.
        if not file.is_file() or file == path or given in FILE_NAMES or given.count(".") != 1:
            continue
        for name in FILE_NAMES:
            if SequenceMatcher(None, given.lower(), name).ratio() >= _LIKENESS_MIN:
                return file, file.name.removesuffix(given) + name
    return None


def files_of(file: Path) -> tuple[str, ...]:
    """Return the files that a plan names, tokenizers, as they are written there.

    What is wrong with the plan is said by read_plan().
    """
    try:
        document = WrittenFile(file, "plan", FILE_BYTES_MAX).document()
    except ModelLoadError:
        return ()
    features = document.get("features")
    steps = [of.get("steps") for of in features if isinstance(of, dict)] if isinstance(features, list) else []
    named = [step.get("tokens") for of in steps if isinstance(of, list) for step in of if isinstance(step, dict)]
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))
