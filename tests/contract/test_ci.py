"""CI makes what `make check test test-more` makes, in two streams; with --all what `make check test test-all` makes."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def made_of(target: str, makefile: str) -> list[str]:
    """What a target of the Makefile is there to have made; a group of tests is what it is made of."""
    (line,) = re.findall(rf"^{target}: ([a-z -]+?)(?: ##.*)?$", makefile, re.MULTILINE)
    parts = str(line).split()
    return [each for part in parts for each in (made_of(part, makefile) if part == "test-more" else [part])]


@pytest.mark.parametrize(("everything", "group"), [(False, "test-more"), (True, "test-all")])
def test_streams_leave_nothing_out(everything: bool, group: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    script = (ROOT / ".ci" / "run").read_text()
    always, (more, less) = (
        re.findall(r"^(?:servers|natives)=\((.*)\)", script, re.MULTILINE),
        re.search(r"--all \]\]; then\n(.*?)else\n(.*?)fi\n", script, re.DOTALL).groups(),  # type: ignore[union-attr]
    )
    made = re.findall(r"['\"]make ([a-z-]+)", "\n".join([*always, more if everything else less]))
    # The test command of the README is called as it stands there; what is checked and what takes longer, part by part.
    wanted = ["test", *made_of("check", makefile), *made_of(group, makefile)]
    assert Counter(made) == Counter(wanted)
