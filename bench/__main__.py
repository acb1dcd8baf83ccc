"""The command line of the benchmarks: `python -m bench --help`."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.accept import CHECKS, accept, print_verdicts
from bench.bare import run_bare
from bench.compare import Bench, Cell, Sample, compare
from bench.models import W1_WIDTHS, W2_WIDTHS, write_models
from bench.priority import raise_priority
from bench.report import machine, print_samples, save
from bench.soak import SoakOptions, run_soak
from bench.workloads import Encoding, Workload

WIDTHS = {"w1": W1_WIDTHS[0], "w2": W2_WIDTHS[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when everything that was judged is good."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = _parser().parse_args(given)
    if options.command is None:
        options = _parser().parse_args([*given, "accept"])
    if options.command == "models":
        for path in write_models(options.folder).values():
            print(path)
        return 0
    if options.priority and not raise_priority():
        print("no right to raise the priority (root has it): going on without", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        return COMMANDS[options.command](options, Path(folder))


def run(options: argparse.Namespace, folder: Path) -> int:
    """Compare with nginx."""
    samples: list[Sample] = []
    workloads = _workloads(folder)
    for name in options.workload:
        for encoding in options.encoding:
            cells = [Cell(workloads[name], Encoding(encoding), count) for count in options.connections]
            for sample in compare(Bench(folder, options.seconds, options.rounds), cells):
                print(f"{sample.target} {sample.cell}: {sample.load.rps:,.0f} requests/s", file=sys.stderr, flush=True)
                samples.append(sample)
    print_samples(samples)
    print(f"\n{save('run', samples)}")
    return 0


def bare(options: argparse.Namespace, folder: Path) -> int:
    """Measure ONNX Runtime alone."""
    workloads = _workloads(folder)
    print(f"\n{machine()}\n\n| workload | batch | rows/s | us a call | CPU us a row |\n|---|--:|--:|--:|--:|")
    results = []
    for name in options.workload:
        for batch in options.batch:
            result = run_bare(workloads[name], batch, options.seconds)
            rate, call, cpu = result.rows_per_second, result.call_us, result.cpu_us_per_row
            print(f"| {name} | {batch} | {rate:,.0f} | {call:,.1f} | {cpu:.2f} |", flush=True)
            results.append(result)
    print(f"\n{save('bare', results)}")
    return 0


def judge(options: argparse.Namespace, folder: Path) -> int:
    """Judge the figures that must be reached."""
    print(machine(), flush=True)
    verdicts = accept(folder, _workloads(folder), options.seconds, options.rounds, options.only or list(CHECKS))
    print_verdicts(verdicts)
    print(f"\n{save('accept', verdicts)}")
    return 0 if all(verdict.reached for verdict in verdicts) else 1


def soak(options: argparse.Namespace, folder: Path) -> int:
    """Load the server in every way at once."""
    result = run_soak(SoakOptions(folder, options.minutes * 60, options.clients, options.kill_every, options.seed))
    print(result)
    save("soak", [result])
    failures = result.failures()
    print("\n".join(failures) or "no wrong answer, none lost, memory flat, no lost wake-up")
    return 1 if failures else 0


COMMANDS = {"run": run, "bare": bare, "accept": judge, "soak": soak}


def _workloads(folder: Path) -> dict[str, Workload]:
    return {name: Workload(name, path, WIDTHS[name]) for name, path in write_models(folder / "models").items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--priority", action="store_true", help="run before other work (root, on a shared machine)")
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser("models", help="write the models of the benchmarks")
    command.add_argument("folder", type=Path)
    command = commands.add_parser("run", help="Penstock and nginx in alternating runs")
    command.add_argument("--workload", type=_words(*WIDTHS), default=["w1"])
    command.add_argument("--encoding", type=_words(*Encoding), default=["json"])
    command.add_argument("--connections", type=_numbers, default=[1, 64, 256], metavar="N,N")
    _add_rounds(command)
    command = commands.add_parser("bare", help="ONNX Runtime in a bare loop")
    command.add_argument("--workload", type=_words(*WIDTHS), default=list(WIDTHS))
    command.add_argument("--batch", type=_numbers, default=[1, 8, 32, 64, 256], metavar="N,N")
    command.add_argument("--seconds", type=float, default=3.0)
    command = commands.add_parser("accept", help="judge every figure that must be reached (the default)")
    command.add_argument("--only", type=_words(*CHECKS), help=f"some of {','.join(CHECKS)}")
    _add_rounds(command)
    command = commands.add_parser("soak", help="mixed load with bad rows, bad clients and killed workers")
    command.add_argument("--minutes", type=float, default=30.0)
    command.add_argument("--clients", type=int, default=8)
    command.add_argument("--kill-every", type=float, default=10.0, help="seconds")
    command.add_argument("--seed", type=int, default=1)
    return parser


def _add_rounds(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=float, default=8.0, help="of each run")
    command.add_argument("--rounds", type=int, default=3)


def _words(*known: str) -> Callable[[str], list[str]]:
    """Read a list of known words, separated by commas."""

    def words(text: str) -> list[str]:
        found = text.split(",")
        if not set(found) <= set(known):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}")
        return found

    return words


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
