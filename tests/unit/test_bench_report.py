"""The report of the benchmarks: tables, Markdown, plots and the page, from results that went through a file."""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from PIL import Image
from rich.console import Console

from bench.bare import BareResult
from bench.capacity import Capacity, Trial
from bench.report import markdown, print_tables, write_report
from bench.report.progress import showing_progress
from bench.results import Results, read_results
from bench.run import Phase, Sample
from penstock.load.generator import Progress
from penstock.load.measurement import Cost, KindResult, Latency, Measurement

HOSTILE = '<script src="http://evil.example/x.js">$\\frac{|'
BEHIND = "the generator fell behind: it saw 1 in 100 requests 807 us too late"


def measurement(rate: float, connections: int = 64, p50: float = 100.0) -> Measurement:
    histogram = HdrHistogram(1, 3_600_000_000, 3)
    for value, count in ((p50, 900), (p50 * 4, 95), (p50 * 40, 5)):
        histogram.record_value(int(value), count)
    latency = Latency(p50=p50, p90=p50 * 2, p99=p50 * 4, p999=p50 * 40, max=p50 * 50, mean=p50 * 1.2)
    return Measurement(
        address="http://127.0.0.1:8000",
        open_loop=connections != 64,
        connections=connections,
        depth=1,
        seconds=3.0,
        offered_rate=rate,
        answered_rate=rate,
        requests=int(rate * 3),
        latency=latency,
        kinds=(KindResult("w1", "json", int(rate * 3), latency, 20.0, 0.99996),),
        errors={},
        lag_us_p50=5.0,
        lag_us_p99=40.0,
        connection_wait_share=0.0,
        generator_cpu_us=8.0,
        reconnects=0,
        void=(),
        cost=Cost(
            cpu_us=9.5,
            user_us=3.5,
            system_us=6.0,
            cores=0.42,
            rss=120_000_000,
            pss=77_000_000,
            processes=2,
            foreign_share=0.05,
            threads={"main/penstock-io": (2.0, 5.0), "child/python": (1.0, 1.0)},
        ),
        mean_batch=12.34,
        histogram=histogram.encode().decode(),
    )


def sample(
    measured: Measurement, load: float | None = None, number: int = 0, target: str = "penstock", scenario: str = "w1"
) -> Sample:
    phase = Phase("closed" if load is None else "open", measured.connections, load)
    sizes = {"1": 3.0, "8": 1.0, "+Inf": 1.0} if target == "penstock" else {}
    return Sample(scenario, target, "json", phase, number, measured, sizes)


def results_of(samples: Sequence[Sample], **more: object) -> Results:
    return Results("run w1 --seconds 3", samples=list(samples), **more)  # type: ignore[arg-type]


def whole() -> Results:
    """Two rounds of two servers, with everything that a report can hold."""
    samples = []
    for number, rate in enumerate((40_000.0, 50_000.0)):
        samples += [sample(measurement(rate), None, number), sample(measurement(2_000.0), None, number, "flask")]
        samples += [sample(measurement(rate * load, 256, 100 + load * 100), load, number) for load in (0.5, 0.9)]
    trial = Trial(30_000.0, 90_000, 10, 0, kept=True, void=False, p99_us=15_000.0)
    return results_of(
        samples,
        capacities=[
            Capacity("w1", "penstock", "json", 20.0, 30_000.0, 45_000.0, (trial,), 60_000.0, 40_000.0),
            Capacity("w2", "penstock", "json", 50.0, 0.0, 45_000.0, (replace(trial, void=True),)),
        ],
        bare=[BareResult("w1", 64, 1_000_000.0, 64.0, 1.0)],
        stages={"w1-json": {"head": 269.1, "decode": 455.0, "path_in": 2989.5, "path_out": 1421.3}},
        versions={"flask": {"flask": "3.1.2"}},
        not_run={"torchserve": "needs Java"},
    )


def printed(results: Results, width: int | None = None) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=width is not None, color_system=None)
    print_tables(results, console)
    return output.getvalue()


def read_back(results: Results, folder: Path) -> Results:
    return read_results([results.save(folder / "results.json")])[0]


def row(text: str, *beginnings: str) -> str:
    """Find the line that holds all of these."""
    return next(line for line in text.splitlines() if all(each in line for each in beginnings))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("report")
    return write_report([read_back(whole(), folder)], folder / "out")


def test_a_table_shows_medians_and_what_they_lie_between(tmp_path: Path) -> None:
    text = printed(read_back(whole(), tmp_path))
    closed = row(text, "closed c=64", "penstock")
    assert "45,000 (40,000 to 50,000)" in closed
    opened = row(text, "open 50%").split()
    for figure in ("22,500", "0.150", "0.300", "0.600", "6.00", "7.50", "99.9", "9.50", "3.50", "0.42", "12.3", "40.0"):
        assert any(figure in word for word in opened), figure
    assert str(whole().machine) in text


def test_a_narrow_terminal_gets_every_column_in_parts() -> None:
    text = printed(whole(), width=130)
    assert max(map(len, text.splitlines())) <= 130
    for heading in ("p99.9 ms", "goodput", "CPU us/req", "PSS MB", "lag p99 us"):
        assert heading in text


def test_rivals_are_sorted_by_rate_with_their_versions() -> None:
    text = markdown([whole()])
    table = text[text.index("beside others") :]
    assert table.index("| penstock |") < table.index("| flask |")
    flask = row(table, "| flask |")
    assert "flask 3.1.2" in flask and "0.04" in flask
    assert "Not run: torchserve: needs Java" in text
    assert "not run: torchserve: needs Java" in printed(whole())


def test_a_capacity_is_compared_with_its_bounds() -> None:
    text = markdown([whole()])
    assert "| w1 | penstock | json | 20 | 30,000 | 75 % | 50 % | 67 % |" in text
    assert "none held" in row(text, "| w2 | penstock |")


def test_markdown_rows_have_as_many_cells_as_headings() -> None:
    widths = [
        {line.replace("\\|", "").count("|") for line in block.splitlines()}
        for block in markdown([whole()]).split("\n\n")
        if block.startswith("|")
    ]
    assert len(widths) == 5 and all(len(each) == 1 for each in widths)


def test_void_rounds_are_left_out_and_said_why() -> None:
    void = replace(measurement(10.0), void=(BEHIND,))
    text = printed(results_of([sample(void), sample(measurement(40_000.0), number=1)]))
    assert "VOID 1/2 [1]" in row(text, "closed c=64") and "40,000" in row(text, "closed c=64")
    assert f"[1] VOID: {BEHIND}" in text


def test_a_case_without_a_valid_round_keeps_its_figures_and_its_mark() -> None:
    void = replace(measurement(10.0), void=(BEHIND,))
    other = replace(void, void=(BEHIND.replace("807", "9,001"),))
    text = printed(results_of([sample(void), sample(other, number=1)]))
    assert "VOID [1]" in row(text, "closed c=64")
    assert "and 1 more like it" in text


def test_noisy_runs_are_marked() -> None:
    measured = measurement(40_000.0)
    assert measured.cost is not None
    noisy = replace(measured, cost=replace(measured.cost, foreign_share=0.4))
    text = printed(results_of([sample(noisy), sample(measured, number=1)]))
    assert "NOISY 1/2 [1]" in row(text, "closed c=64")
    assert "took 40 % of all cores" in text


def test_errors_are_counted_by_kind_and_goodput_by_limit() -> None:
    measured = measurement(100.0)
    kinds = (measured.kinds[0], replace(measured.kinds[0], model="heavy", slo_ms=100.0, goodput=0.5))
    failed = replace(measured, errors={"429": 7, "timeout": 1200}, kinds=kinds)
    text = printed(results_of([sample(failed), sample(failed, number=1)]))
    assert "429: 14, timeout: 2,400" in text
    assert "w1 99.9 %, heavy 50.0 %" in text


def test_the_page_is_whole_and_loads_nothing(report: list[Path]) -> None:
    page = report[0].read_text()
    root = ElementTree.fromstring(page)
    assert {path.name for path in report} == {
        "report.html",
        "rivals-w1.png",
        "latency.png",
        "distribution.png",
        "cpu.png",
        "batches.png",
        "stages.png",
    }
    images = [image.attrib["src"] for image in root.iter("img")]
    assert len(images) == 6 and all(source.startswith("data:image/png;base64,") for source in images)
    assert not list(root.iter("script")) and not list(root.iter("link")) and "http://" not in page
    assert not re.search(r"url\(|@import|https://", page)
    assert "Not run: torchserve: needs Java" in page and whole().revision in page


def test_plots_are_pictures_of_a_width_for_documents(report: list[Path]) -> None:
    for path in report[1:]:
        with Image.open(path) as image:
            image.load()
            assert image.width in (1500, 2000)
            colours = image.convert("RGB").getcolors()
            assert colours is not None and len(colours) > 5
        assert path.stat().st_size < 60_000


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    samples = [sample(measurement(100.0), target=target, scenario=HOSTILE) for target in ("penstock", HOSTILE)]
    results = results_of(samples, not_run={HOSTILE: HOSTILE}, versions={HOSTILE: {HOSTILE: HOSTILE}})
    results.command = HOSTILE
    written = write_report([read_back(results, tmp_path)], tmp_path / "out")
    root = ElementTree.fromstring(written[0].read_text())
    assert not list(root.iter("script"))
    assert [path.name for path in written] == ["report.html", "rivals-1.png", "cpu.png", "batches.png"]
    assert all(path.parent == tmp_path / "out" for path in written)
    assert "<script" not in markdown([results])
    assert HOSTILE in printed(results)


def test_what_was_not_answered_or_not_counted_breaks_nothing(tmp_path: Path) -> None:
    silent = replace(
        measurement(0.0),
        latency=None,
        cost=None,
        mean_batch=None,
        histogram="",
        requests=0,
        kinds=(),
        errors={"reset": 3},
    )
    results = results_of([replace(sample(silent, load), batch_sizes={}) for load in (None, 0.5, 0.9)])
    assert "penstock answered nothing with 200, closed c=64" in markdown([results])
    assert [path.name for path in write_report([results], tmp_path)] == ["report.html"]


def test_a_report_of_nothing_says_what_was_not_run(tmp_path: Path) -> None:
    empty = results_of([], not_run={"w1": "no ports"})
    assert "not run: w1: no ports" in printed(empty)
    page = write_report([empty], tmp_path)[0].read_text()
    assert "Not run: w1: no ports" in page


def test_results_of_several_files_are_told_apart(tmp_path: Path) -> None:
    other = replace(whole(), samples=[], machine=replace(whole().machine, cores=128), revision="abc")
    text = markdown([results_of([sample(measurement(10.0))]), other])
    assert "different machines" in text and "different revisions" in text


def test_an_entry_that_is_no_sample_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        markdown([Results("run", samples=[{"scenario": "w1"}])])


def test_progress_is_silent_without_a_terminal() -> None:
    output = io.StringIO()
    with showing_progress(10.0, Console(file=output)) as watch:
        watch("closed", Progress(1.0, 10, 10, 0))
    assert output.getvalue() == ""


def test_progress_adds_up_runs_and_shows_the_rate() -> None:
    output = io.StringIO()
    with showing_progress(10.0, Console(file=output, force_terminal=True, width=100)) as watch:
        watch("closed", Progress(2.0, 2000, 2000, 0))
        watch("500/s", Progress(-0.02, 0, 0, 0))
        watch("500/s", Progress(1.0, 600, 500, 3))
    assert "500/s, 3 failed" in output.getvalue()
