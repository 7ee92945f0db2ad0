"""The end of a job's process: its code, its output, its threads and exit functions, under a profiler too."""

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
