"""Results of a case: ratios, agreement, files."""

import json
from dataclasses import replace

import pyarrow as pa

from w2v2.benchmarks import report
from w2v2.benchmarks.config import (
    BenchmarkConfig,
)
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, alternate, lines_of, table_of
from w2v2.storage import run_directory


def test_sides_run_in_turn_and_in_reverse_every_other_round():
    order = []
    sides = {name: (lambda number, name=name: order.append((number, name)) or name) for name in "abc"}
    rounds = alternate(sides, rounds=3, what="test")
    assert [name for _, name in order] == list("abccbaabc")
    assert [number for number, _ in order] == [0] * 3 + [1] * 3 + [2] * 3
    assert rounds.results == {name: [name] * 3 for name in "abc"}
    for by_side in (rounds.seconds, rounds.cpu_seconds):
        assert all(len(values) == 3 and min(values) >= 0 for values in by_side.values())


def made_result() -> CaseResult:
    comparison = Comparison(
        part="part",
        seconds={OURS: [1.0, 2.0, 4.0], "peer": [5.0, 6.0, 8.0], "other": [1.0, 1.0, 1.0]},
        amount=8,
        unit="clips",
        wanted={"peer": 3.5},
    )
    agreements = [
        Agreement(part="part", side=OURS, what="error", value=0.5, at_most=0.25),
        Agreement(part="part", side="peer", what="error", value=float("nan")),
    ]
    return CaseResult(case="extract", comparisons=[comparison], agreements=agreements, notes=["a note"])


def test_ratios_are_taken_round_by_round():
    (comparison,) = made_result().comparisons
    assert comparison.ratios("peer") == [5.0, 3.0, 2.0]
    assert comparison.median(OURS) == 2.0


def test_processor_seconds_are_a_line_and_a_ratio_of_their_own():
    comparison = replace(
        made_result().comparisons[0],
        cpu_seconds={OURS: [1.0, 1.0, 1.0], "peer": [2.0, 3.0, 4.0], "other": [1.0, 1.0, 1.0]},
    )
    lines = lines_of(CaseResult(case="extract", comparisons=[comparison]))
    assert "3 CPU s" in lines[2] and "CPU 3 x (2 to 4), wanted 3.5: MISSED" in lines[2]
    kinds = table_of([CaseResult(case="extract", comparisons=[comparison])])["what"].to_pylist()
    assert kinds.count("CPU seconds") == 9


def test_lines_say_what_was_reached_and_what_does_not_hold():
    lines = lines_of(made_result())
    assert lines[0] == "extract: part, 8 clips, median of 3"
    assert lines[1].split() == ["w2v2", "2", "s", "4", "clips/s"]
    assert lines[2].endswith("3 x ours (2 to 5), wanted 3.5: MISSED")
    assert lines[3].endswith("0.5 x ours (0.25 to 1)")
    assert lines[4] == "extract: part: w2v2: error 0.5, at most 0.25: DOES NOT HOLD"
    assert lines[5:] == ["extract: part: peer: error nan", "extract: a note"]
    better = replace(made_result().comparisons[0], wanted={"peer": 3.0})
    assert "wanted 3: reached" in "\n".join(lines_of(CaseResult(case="all", comparisons=[better])))


def test_nan_never_agrees():
    assert not Agreement(part="", side="", what="", value=float("nan")).holds
    assert Agreement(part="", side="", what="", value=3.0).holds


def test_a_case_that_is_run_again_replaces_its_own_numbers_alone(tmp_path):
    config = BenchmarkConfig(cases=("extract",), run=str(tmp_path))
    first, other = made_result(), replace(made_result(), case="reading")
    machine = report.machine()
    report.write(config, [first, other], machine)
    again = replace(first, comparisons=(), agreements=[Agreement(part="p", side=OURS, what="w", value=7.0)])
    report.write(config, [again], machine)
    table = run_directory.read_table(str(tmp_path), "benchmark")
    kept = table.filter(pa.compute.equal(table["case"], "reading"))
    assert repr(kept.to_pylist()) == repr(table_of([other]).to_pylist())  # NaN is not equal to itself
    assert table.filter(pa.compute.equal(table["case"], "extract"))["value"].to_pylist() == [7.0]


def test_the_summary_is_plain_json_with_machine_and_settings(tmp_path):
    config = BenchmarkConfig(cases=("extract",), run=str(tmp_path))
    machine = report.machine()
    report.write(config, [made_result()], machine)
    written = json.loads((tmp_path / "benchmark-extract.json").read_text())
    assert written["machine"]["date"][:2] == "20" and written["machine"]["num_cores"] >= 1
    assert written["comparisons"][0]["sides"]["peer"]["ratios"] == [5.0, 3.0, 2.0]
    assert [row["value"] for row in written["agreements"]] == [0.5, None]
    assert [row["holds"] for row in written["agreements"]] == [False, False]
    assert written["config"]["search"]["num_trials"] == 3
    assert (tmp_path / "plots/benchmark-extract.png").read_bytes()[:4] == b"\x89PNG"
    assert f"{machine['num_cores']} cores" in report.machine_line(machine)
