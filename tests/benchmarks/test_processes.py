"""Commands as processes: memory and lines."""

import sys

import pytest

from w2v2.benchmarks import processes
from w2v2.benchmarks.processor_time import ProcessorTime
from w2v2.errors import UserError


def test_memory_is_summed_over_a_process_and_those_below_it():
    pytest.importorskip("psutil")
    hold = "b = bytearray(120_000_000); import time; time.sleep(0.6)"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    ended = processes.run_command([sys.executable, "-c", code], watch_memory=True)
    assert 240e6 < ended.peak_bytes < 340e6


def test_processor_seconds_are_summed_over_a_process_and_those_below_it_that_nobody_waits_for():
    pytest.importorskip("psutil")
    work = "import time\nwhile time.process_time() < {}: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work.format(0.9)!r}])\n"
    with ProcessorTime() as worked:
        processes.run_command([sys.executable, "-c", f"{orphan}{work.format(1.5)}"])
    assert 1.9 < worked.seconds < 4


def test_memory_needs_psutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(
        UserError,
        match=r"the memory of a command is measured by psutil: install it with pip install 'w2v2\[bench\]'",
    ):
        processes.MemoryWatch(1)


def test_a_command_that_fails_is_reported_with_its_last_words():
    code = "import sys; print('one'); print('the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(UserError, match=r"ended with code 3: .*the reason"):
        processes.run_command([sys.executable, "-c", code])


def test_lines_come_with_their_times():
    code = "import time; print('a'); time.sleep(0.5); print('b')"
    (first_s, first), (second_s, second) = processes.run_command([sys.executable, "-c", code]).lines
    assert (first, second) == ("a", "b") and 0.25 < second_s - first_s < 5
