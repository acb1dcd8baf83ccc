"""`penstock test`: holds a model to what is known and asked of it, so that CI can gate it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Debug, KeyFile, Url
from penstock.cli.plainly import told_plainly

if TYPE_CHECKING:
    from penstock.testing.checks import Check, Report
    from penstock.testing.plan import TestPlan
    from penstock.testing.running import Remote

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


@app.callback()
def _several() -> None:
    """Test a model."""


def _option(help_text: str, metavar: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=help_text, show_default=False, **more)


@app.command("test")
def _test(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A file or folder, which is served for the test; with --url a name.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[Path | None, _option("What to test, in TOML [./penstock-test.toml].", "FILE")] = None,
    config: Annotated[Path | None, _option("Settings to serve it with, in TOML.", "FILE")] = None,
    version: Annotated[str | None, _option("Its version, at a server [the latest].", "VERSION")] = None,
    golden: Annotated[list[Path] | None, _option("More golden rows; may be repeated.", "FILE")] = None,
    fuzz_rows: Annotated[int | None, _option("Rows of each kind to try [100]; 0 for none.", "COUNT")] = None,
    extremes: Annotated[str | None, _option("NaN and the like: answer, refuse or off [answer].", "WHAT")] = None,
    seed: Annotated[int | None, _option("Of rows and times [1].", "NUMBER")] = None,
    p99_ms: Annotated[float | None, _option("Fail unless 99 % are answered within this.", "MS", "--p99-ms")] = None,
    rate: Annotated[float | None, _option("Requests per second for that [100].", "RATE")] = None,
    duration: Annotated[float | None, _option("Measured seconds [10].", "S")] = None,
    labels: Annotated[Path | None, _option("Rows whose outputs are known.", "FILE")] = None,
    target: Annotated[str | None, _option("The column with what is true.", "COLUMN")] = None,
    output: Annotated[str | None, _option("The output that should be it.", "NAME")] = None,
    scores: Annotated[str | None, _option("The output with scores, for --min-auc.", "NAME")] = None,
    classes: Annotated[str | None, _option("The labels in the order of scores.", "LABEL,...")] = None,
    slice_by: Annotated[str | None, _option("Hold each of its values to the thresholds.", "COLUMN", "--slice")] = None,
    min_accuracy: Annotated[float | None, _option("Fail below this.", "SHARE")] = None,
    min_f1: Annotated[float | None, _option("Fail below this (macro average).", "SHARE")] = None,
    min_auc: Annotated[float | None, _option("Fail below this area under the curve.", "SHARE")] = None,
    min_r2: Annotated[float | None, _option("Fail below this.", "NUMBER")] = None,
    max_mae: Annotated[float | None, _option("Fail above this mean absolute error.", "NUMBER")] = None,
    max_rmse: Annotated[float | None, _option("Fail above this.", "NUMBER")] = None,
    junit: Annotated[Path | None, _option("Write a report for CI.", "FILE")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Test a model: golden rows, rows made from its schema, latency, and accuracy on labelled rows.

    Exits with 0 when all checks are passed or skipped, 1 when one has failed, 2 for wrong usage, 3 when no server
    answers.
    """
    said = {
        "model": model,
        "config": None if config is None else str(config),
        "version": version,
        "golden": [str(path) for path in golden or []] or None,
        "seed": seed,
        "fuzz": {"rows": fuzz_rows, "extremes": extremes},
        "latency": {"p99_ms": p99_ms, "rate": rate, "duration_s": duration},
        "accuracy": {
            "labels": None if labels is None else str(labels),
            "target": target,
            "output": output,
            "scores": scores,
            "classes": None if classes is None else [name.strip() for name in classes.split(",")],
            "min_accuracy": min_accuracy,
            "min_f1": min_f1,
            "min_auc": min_auc,
            "min_r2": min_r2,
            "max_mae": max_mae,
            "max_rmse": max_rmse,
            "slices": {"column": slice_by},
        },
    }
    with told_plainly(debug):
        from penstock.testing.running import run_plan
        from penstock.testing.written import as_json as json_of
        from penstock.testing.written import as_junit

        plan = _plan(file, _without_none(said))
        report = run_plan(plan, _remote(plan, url, key_file), _told if sys.stderr.isatty() else lambda _: None)
        if junit is not None:
            _write(junit, as_junit(report))
        sys.stdout.write(json.dumps(json_of(report)) + "\n" if as_json else _text(report))
    if not report.ok:
        raise typer.Exit(1)


def _plan(file: Path | None, said: dict[str, Any]) -> TestPlan:
    from penstock.testing.plan import FILE_NAME, check_document, plan_of, read_plan_file

    if file is None and "model" not in said and Path(FILE_NAME).is_file():
        file = Path(FILE_NAME)
    document = {} if file is None else read_plan_file(file)
    check_document(said, "the command line")
    return plan_of(_over(document, said))


def _over(document: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Return a document with what was said on the command line in place of what it had."""
    merged = dict(document)
    for name, value in said.items():
        before = merged.get(name)
        merged[name] = _over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _without_none(said: dict[str, Any]) -> dict[str, Any]:
    found = {name: _without_none(value) if isinstance(value, dict) else value for name, value in said.items()}
    return {name: value for name, value in found.items() if value not in (None, {})}


def _remote(plan: TestPlan, url: str | None, key_file: Path | None) -> Remote | None:
    """Return the server to ask; None where the model is served for the test.

    PENSTOCK_URL alone counts for what is neither a path nor a model of the configuration.
    """
    from penstock.core.errors import ConfigError
    from penstock.testing.running import Remote, is_path

    if url is None:
        if plan.config is not None or is_path(plan.model):
            return None
        url = os.environ.get("PENSTOCK_URL")
        if not url:
            raise ConfigError(f"there is no file or folder {plan.model}; of a server's model give its name and --url")
    from penstock.cli.asking import client_of, key_of

    return Remote(client_of(url, key_file), url, key_of(key_file))


def _told(what: str) -> None:
    sys.stderr.write(f"penstock: {what} ...\n")


def _write(file: Path, content: bytes) -> None:
    from penstock.core.errors import ConfigError

    try:
        file.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


# --- for people -------------------------------------------------------------------------------------------------------


def _text(report: Report) -> str:
    from penstock.testing.checks import Outcome

    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = max((len(check.name) for check in report.checks), default=0)
    lines = [_line(check, width, coloured) for check in report.checks]
    for check in report.checks:
        if check.outcome is Outcome.FAILED and "\n" in check.detail:
            lines += ["", f"{check.group}: {check.name}", *(f"  {line}" for line in check.detail.splitlines())]
    counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome)
    name = f"{report.model} {report.version}".strip()
    lines += ["", f"{name}: {counts} in {report.seconds:.1f} s (seed {report.seed})"]
    return "\n".join(lines) + "\n"


def _line(check: Check, width: int, coloured: bool) -> str:
    word = f"{check.outcome.value:<7}"
    if coloured:
        word = typer.style(word, fg=_COLOURS[check.outcome.value])
    return f"{word}  {check.group:<8}  {check.name:<{width}}  {check.detail.partition(chr(10))[0]}".rstrip()
