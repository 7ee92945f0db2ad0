"""The end of a job's process: its code, its output, its threads and exit functions, under a profiler too."""

import os
import shlex
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
from w2v2.process_end import end_process

class Freed:
    def __del__(self):
        print("freed")

def slowly():
    time.sleep(0.3)
    print("thread", end=" ")

kept = Freed()
atexit.register(print, "exit function", end=" ")
threading.Thread(target=slowly).start()
print("output", end=" ")
end_process({code})
"""


@pytest.mark.parametrize("code", [0, 2, 130])
def test_all_is_as_with_sys_exit_but_for_freeing(code: int) -> None:
    program = PROGRAM.replace("{code}", str(code))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "output thread exit function ", "")
    usual = program.replace("end_process(", "sys.exit(")
    ended = subprocess.run([sys.executable, "-c", usual], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "output thread exit function freed\n")


def test_a_profiler_sees_the_end() -> None:
    program = "import cProfile; cProfile.run('from w2v2.process_end import end_process; end_process(0)')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0 and "function calls" in ended.stdout


def test_an_exit_function_that_fails_is_reported() -> None:
    program = "import atexit; from w2v2.process_end import end_process; atexit.register(lambda: 1 / 0); end_process(3)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 3 and "ZeroDivisionError" in ended.stderr


def run_with_output_to(target: str, program: str) -> tuple[int, str]:
    """The exit code and the errors of a program whose output goes there by a shell's redirection."""
    command = f"{shlex.join([sys.executable, '-c', program])} {target}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("> /dev/full", 120, "No space left on device"),
        ("| sleep 0; exit ${PIPESTATUS[0]}", 120, "Broken pipe"),
        (">&-", 3, ""),
    ],
)
def test_output_that_cannot_be_written_is_reported_as_with_sys_exit(
    target: str, code: int, words: str
) -> None:
    program = "import time; time.sleep(0.5); from w2v2.process_end import end_process; print('output'); end_process(3)"
    ended = run_with_output_to(target, program)
    assert ended == run_with_output_to(target, program.replace("end_process(3)", "raise SystemExit(3)"))
    assert ended[0] == code and words in ended[1]


def test_an_end_that_is_interrupted_still_runs_exit_functions() -> None:
    program = """
import atexit, os, signal, threading, time
from w2v2.process_end import end_process
atexit.register(print, "exit function")
threading.Thread(target=time.sleep, args=(1.5,)).start()
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
end_process(130)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (130, "exit function\n")
