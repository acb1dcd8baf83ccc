"""CI makes what `make check test test-all` would, in streams of its own."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def made_of(target: str, makefile: str) -> list[str]:
    """What a target of the Makefile is there to have made."""
    (line,) = re.findall(rf"^{target}: ([a-z -]+?)(?: ##.*)?$", makefile, re.MULTILINE)
    return str(line).split()


def test_streams_leave_nothing_out() -> None:
    makefile = (ROOT / "Makefile").read_text()
    script = (ROOT / ".ci" / "run").read_text().replace("\\\n", " ")
    streams = re.findall(r"^ *stream [a-z]+ ('.*)", script, re.MULTILINE)
    made = re.findall(r"'make ([a-z-]+)'", " ".join(streams))
    # The test command of the README is called as it stands there; what is checked and what takes longer, part by part.
    wanted = ["test", *(each for target in ("check", "test-all") for each in made_of(target, makefile))]
    assert Counter(made) == Counter(wanted)
