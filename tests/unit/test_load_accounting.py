"""What a process tree cost is what it used, whoever of it has ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.load.accounting import busy_seconds, snapshot, tree_memory, usage

# Starts a thread at a line from us, says one when it has taken its time, ends it at another of ours, and says that.
ENDS_A_THREAD = """
import sys, threading, time

def burn():
    while time.thread_time() < 0.3:
        pass
    print("burnt", flush=True)
    sys.stdin.readline()

sys.stdin.readline()
thread = threading.Thread(target=burn)
thread.start()
thread.join()
print("ended", flush=True)
sys.stdin.readline()
"""


def test_a_thread_that_has_ended_has_cost_what_it_did() -> None:
    command = [sys.executable, "-c", ENDS_A_THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        begin = snapshot(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "burnt\n"
        middle = snapshot(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ended\n"
        end = snapshot(process.pid)
        process.stdin.write("\n")
    assert usage(begin, middle).tree.total >= 0.25
    assert 0 <= usage(middle, end).tree.total < 0.25


def test_time_that_a_hypervisor_took_is_not_idle() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, in ticks of 10 ms
    assert busy_seconds("cpu  100 20 30 4000 500 6 7 80 9 10\ncpu0 1 1 1") == pytest.approx(2.43)
    assert busy_seconds(Path("/proc/stat").read_text()) > 0


def test_nobody_costs_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert snapshot(process.pid).tree.total == 0
    assert tree_memory(process.pid).processes == 0
