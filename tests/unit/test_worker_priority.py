"""Idle priority, and the clock that does not see who else runs."""

import subprocess
import sys
import textwrap
import threading
import time

import pytest

from penstock.worker.priority import clock_without_preemption


def in_a_process(program: str) -> list[str]:
    """Run a program by itself, since priorities are a process's; the words that it prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def may_be_idle() -> bool:
    return in_a_process("from penstock.worker.priority import become_idle; print(become_idle())") == ["True"]


def test_every_thread_comes_back() -> None:
    if not may_be_idle():
        pytest.skip("idle priority could not be left here: it needs CAP_SYS_NICE or RLIMIT_NICE of 20")
    program = """
        import os, threading
        from penstock.worker.priority import back_to_normal, become_idle
        def policies():
            return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
        assert become_idle()
        done = threading.Event()
        threads = [threading.Thread(target=done.wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        print(policies() == {os.SCHED_IDLE})
        back_to_normal()
        print(policies() == {os.SCHED_OTHER})
        done.set()
    """
    assert in_a_process(program) == ["True", "True"]


def test_a_parent_brings_every_thread_of_a_child_back() -> None:
    if not may_be_idle():
        pytest.skip("idle priority could not be left here: it needs CAP_SYS_NICE or RLIMIT_NICE of 20")
    program = """
        import os, subprocess, sys
        from penstock.worker.priority import back_to_normal, become_idle
        code = "import threading; threading.Thread(target=input).start(); print(flush=True)"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        def policies():
            return [os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{child.pid}/task")]
        assert become_idle(child.pid)
        child.stdout.readline()
        print(policies() == 2 * [os.SCHED_IDLE])
        back_to_normal(child.pid)
        print(policies() == 2 * [os.SCHED_OTHER])
        child.communicate(b"go\\n")
    """
    assert in_a_process(program) == ["True", "True"]


def test_who_cannot_come_back_does_not_go() -> None:
    program = """
        import ctypes, os, resource
        from penstock.worker.priority import become_idle
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)  # and with it goes every capability
        print(become_idle(), os.sched_getscheduler(0) == os.SCHED_OTHER)
    """
    assert in_a_process(program) == ["False", "True"]


def test_root_of_a_rootless_container_does_not_go() -> None:
    inside = ["unshare", "--user", "--map-root-user", sys.executable, "-c"]
    if subprocess.run([*inside, ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    program = "from penstock.worker.priority import become_idle; print(become_idle())"
    done = subprocess.run([*inside, program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_time_that_a_thread_waits_by_itself_counts() -> None:
    now, event = clock_without_preemption(), threading.Event()
    real, before = time.perf_counter(), now()
    event.wait(0.05)
    assert 0.02 < now() - before <= time.perf_counter() - real


def test_time_that_others_run_does_not_count() -> None:
    program = """
        import os, time
        from penstock.worker.priority import clock_without_preemption
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpu})
        child = os.fork()
        if child == 0:  # it runs on the same CPU all the time
            while True:
                pass
        now = clock_without_preemption()
        first, real, used = now(), time.perf_counter(), time.thread_time()
        while time.thread_time() - used < 0.3:
            pass
        took, wall = now() - first, time.perf_counter() - real
        os.kill(child, 9)
        os.waitpid(child, 0)
        print(took, wall)
    """
    took, wall = map(float, in_a_process(program))
    if now_is_perf_counter():
        pytest.skip("this kernel does not say how long a thread waits for a CPU")
    assert took < 0.8 * wall
    assert took >= 0.29


def test_time_does_not_go_back_when_others_run_between() -> None:
    program = """
        import os
        from penstock.worker.priority import clock_without_preemption
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpu})
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:  # it takes the CPU away and gives it back, as often as may be
                while True:
                    os.sched_yield()
            children.append(child)
        now = clock_without_preemption()
        readings = [now() for _ in range(100_000)]
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
        print(sum(later < earlier for earlier, later in zip(readings, readings[1:])))
    """
    assert in_a_process(program) == ["0"]


def now_is_perf_counter() -> bool:
    return clock_without_preemption() is time.perf_counter
