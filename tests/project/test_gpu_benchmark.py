"""The script behind `make benchmark-gpu`, without its minutes: the cheap sections run, and one case spoils no other."""

import functools
import importlib
import itertools
import json
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A module of benchmarks/, by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


# --- what runs, and when ---


class Clock:
    """Time that passes only where it is spent."""

    def __init__(self):
        self.now = 0.0

    def spend(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(load, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(load("gpu_sections.cases").time, "monotonic", lambda: clock.now)
    return clock


def run(load, clock, seconds, done=(), **sections):
    """The events of sections, each a share and cases as (name, least, most, seconds that it takes or an error)."""
    cases = load("gpu_sections.cases")

    def case(name, least, most, takes):
        def measure(seconds):
            if isinstance(takes, Exception):
                raise takes
            clock.spend(seconds if takes is None else takes)
            return cases.Figure(seconds, "s")

        return cases.Case(name, measure, least, most)

    events = []
    cases.run_cases(
        [
            cases.Section(name, share, lambda wanted=wanted: [case(*one) for one in wanted])
            for name, (share, *wanted) in sections.items()
        ],
        seconds,
        done,
        events.append,
    )
    return events


def measured(events):
    return [(event["section"], event["case"], event["median"]) for event in events if event["event"] == "figure"]


def test_each_section_has_its_share_and_each_case_its_part_of_it(load, clock):
    events = run(load, clock, 30, one=(1, ("a", 1, 99, None), ("b", 1, 99, None)), other=(2, ("c", 1, 99, None)))
    assert measured(events) == [("one", "a", 5), ("one", "b", 5), ("other", "c", 20)]
    assert clock.now == 30


def test_what_a_section_leaves_goes_to_the_others(load, clock):
    events = run(load, clock, 30, one=(2, ("a", 1, 4, None)), other=(1, ("b", 1, 99, None)))
    assert measured(events) == [("one", "a", 4), ("other", "b", 26)]


def test_what_does_not_fit_is_left_out_and_made_up_for_at_the_end(load, clock):
    one = (1, ("a", 4, 9, None), ("b", 4, 9, None), ("c", 4, 9, None))
    assert measured(run(load, clock, 12, one=one, other=(1, ("d", 1, 1, None)))) == [
        ("one", "a", 4),
        ("other", "d", 1),
        ("one", "b", 7),
    ]


def test_a_case_that_fails_leaves_its_last_line_and_the_rest_continues(load, clock):
    error = ValueError("a\n  long story\n  the sentence")
    events = run(load, clock, 9, one=(1, ("a", 1, 9, error), ("b", 1, 9, None)))
    failed = [event["error"] for event in events if event["event"] == "failed"]
    assert failed == ["ValueError: the sentence"]
    assert measured(events) == [("one", "b", 9)]


def test_a_section_that_cannot_even_begin_is_reported_once(load, clock):
    cases = load("gpu_sections.cases")

    def no_cases():
        raise ModuleNotFoundError("No module named 'peer'")

    for done, expected in ([], ["ModuleNotFoundError: No module named 'peer'"]), ([("one", "")], []):
        events = []
        cases.run_cases([cases.Section("one", 1, no_cases)], 9, done, events.append)
        assert [event["error"] for event in events] == expected


def test_what_was_measured_before_is_not_measured_again(load, clock):
    sections = {"one": (1, ("a", 1, 9, None), ("b", 1, 9, None))}
    assert measured(run(load, clock, 9, [("one", "a")], **sections)) == [("one", "b", 9)]


# --- the process that measures, and the one that watches it ---

WORKER = """
    import json, os, signal, subprocess, sys, time
    sys.path.insert(0, {benchmarks!r})
    from gpu_sections.cases import Case, Figure, Section, run_cases

    def tell(event):
        print(json.dumps(event), flush=True)

    def die(seconds):
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(seconds):
        print(subprocess.Popen(["sleep", "600"]).pid, file=sys.stderr, flush=True)
        time.sleep(600)

    broken = []

    def fail(seconds):
        broken.append("the device")
        return 1 / 0

    def tidy():
        if broken:
            os._exit(1)

    def cases():
        good = lambda seconds: Figure(1.0, "s")
        return [
            Case("good", good),
            Case("hangs", hang),
            Case("fails", fail),
            Case("dies", die),
            Case("last", good),
        ]

    task = json.loads(sys.argv[1])
    tell({{"event": "ready", "smoke": False, "card": "none", "machine": {{}}}})
    run_cases([Section("one", 1, cases)], task["seconds"], map(tuple, task["done"]), tell, tidy)
"""


@pytest.fixture
def watch(load, monkeypatch, tmp_path):
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "PATIENCE", 1.0)
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER.format(benchmarks=str(BENCHMARKS))))

    def watch(seconds):
        record, written = {"command": "python", "date": "today"}, []
        task = {"sections": ["one", "two"]}
        with (tmp_path / "log.txt").open("w") as log:
            gpu.Watch([sys.executable, str(script)], record, task, lambda: written.append(json.dumps(record)), log).run(
                seconds
            )
        assert json.loads(written[-1]) == record
        return record

    return watch


@pytest.mark.slow
def test_cases_that_hang_or_kill_their_process_spoil_no_other(load, watch, tmp_path):
    record = watch(40)
    child = int((tmp_path / "log.txt").read_text().split()[0])
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert [row["case"] for row in record["figures"]] == ["good", "last"]
    assert {row["case"]: row["error"] for row in record["failed"]} == {
        "hangs": "it hung",
        "fails": "ZeroDivisionError: division by zero",
        "dies": "the process died with exit code -9",
    }
    written = load("gpu_sections.page").table(record)
    assert "| one | good | 1 | s |" in written
    assert "| one | dies | **failed** | | | after 0.0 s: the process died with exit code -9 |" in written
    assert "| two | all of it | cut |" in written


@pytest.mark.slow
def test_it_ends_in_time_and_names_what_was_cut(load, watch, monkeypatch):
    monkeypatch.setattr(load("gpu"), "PATIENCE", 60.0)
    monkeypatch.setattr(load("gpu"), "STOP_SECONDS", 0.5)
    began = time.monotonic()
    record = watch(4)
    assert time.monotonic() - began < 20
    (failed,) = record["failed"]
    assert (failed["case"], failed["error"]) == ("hangs", "cut in the middle: the time was over")
    assert "| one | fails; dies; last | cut |" in load("gpu_sections.page").table(record)


# --- what is measured ---


def test_the_cheap_sections_run_on_a_cpu(load):
    import torch

    cases, bench = load("gpu_sections.cases"), load("gpu_sections.measuring").Bench(torch.device("cpu"), smoke=True)
    names = ("machine", "updates", "acting", "ring", "games")
    modules = {name: load(f"gpu_sections.{name}") for name in names}
    sections = [cases.Section(name, 1, functools.partial(module.cases, bench)) for name, module in modules.items()]
    events = []
    cases.run_cases(sections, 600, (), events.append)
    for name in names:
        assert any(event["event"] == "figure" and event["section"] == name for event in events), name
    for event in events:
        if event["event"] == "figure" and event["unit"]:
            assert 0 < event["low"] <= event["median"] <= event["high"]
        elif event["event"] == "failed":
            assert "graph" in event["case"], event  # needs a GPU


def test_arithmetic_is_what_the_case_says_and_afterwards_as_before(load):
    import torch

    measuring = load("gpu_sections.measuring")
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def state():
        return matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic

    before = state()
    for name, expected in measuring.TF32.items():
        for deterministic in (False, True):
            with measuring.arithmetic(name, deterministic=deterministic):
                assert state() == (*expected, deterministic)
                cudnn.deterministic = True  # as a run sets it, which must not slow down what is measured after it
            assert state() == before


def test_the_page_asks_for_cases_that_there_are(load):
    import torch

    page, bench = load("gpu_sections.page"), load("gpu_sections.measuring").Bench(torch.device("cpu"), smoke=False)
    names = {
        section: [case.name for case in load(f"gpu_sections.{section}").cases(bench)]
        for section in ("updates", "loops", "acting", "ring", "games", "resuming")
    }
    peers = load("gpu_sections.peers")
    names["peers"] = [f"lit_dqn, {loop.name}" for loop in peers.LOOPS]
    names["peers"] += [f"Stable-Baselines3, {name}" for name in peers.STABLE_BASELINES3]
    for _, section, case, baseline, _ in page.HEADLINES:
        assert case in names[section]
        assert baseline is None or any(name.startswith(baseline) for name in names[section])
    for section, found in names.items():
        assert len(found) == len(set(found)), section


def test_the_page_says_not_measured_until_there_are_figures(load, monkeypatch, tmp_path):
    page = load("gpu_sections.page")
    begin, end = page.MARKS
    assert begin in page.PAGE.read_text()
    monkeypatch.setattr(page, "PAGE", tmp_path / "performance.md")
    page.PAGE.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    page.write_page([])
    assert "old" not in page.PAGE.read_text()
    assert page.PAGE.read_text().count(page.NOT_MEASURED) > len(page.HEADLINES)
    figure = {"unit": "agent steps/s", "low": 9_000.0, "high": 12_000.0, "notes": {}}
    rows = [("8 envs, in turn, 32-true", 10_000.0), ("8 envs, in turn, 32-true, eager, replay on the host", 1_600.0)]
    record = {"card": "a card", "date": "today", "command": "python", "machine": {"torch": "2"}}
    record["figures"] = [{"section": "loops", "case": case, "median": median, **figure} for case, median in rows]
    page.write_page([record])
    line = next(line for line in page.PAGE.read_text().splitlines() if "8 envs in turn" in line)
    assert "| **10,000** agent steps/s | 9,000 to 12,000 | 1,600, 8 envs, in turn" in line
    assert "| 6.25 |" in line
    # A time is the better the shorter it is.
    update = "Nature CNN, batch 32, float32"
    rows = [(f"{update}, graph", 0.2), (f"{update}, plain torch", 1.0)]
    record["figures"] = [
        {"section": "updates", "case": case, "median": median, **figure, "unit": "ms"} for case, median in rows
    ]
    assert "| 5 |" in next(line for line in page.headlines(record).splitlines() if "batch 32, float32" in line)


def test_of_two_runs_on_a_card_the_later_figure_counts_and_each_card_stands_alone(load):
    def record(card, command, **medians):
        figures = [{"section": "one", "case": case, "median": median} for case, median in medians.items()]
        return {"card": card, "command": command, "figures": figures}

    records = record("old", "first", a=1, b=2), record("new", "other", a=5), record("old", "second", b=3, c=4)
    new, old = load("gpu_sections.page").merged(records)
    assert (new["card"], new["figures"]) == ("new", record("new", "other", a=5)["figures"])
    assert {row["case"]: row["median"] for row in old["figures"]} == {"a": 1, "b": 3, "c": 4}
    assert old["command"] == "first`, `second"


def test_laps_are_speeds_between_two_looks_at_the_clock(load, monkeypatch):
    import torch

    loops, bench = load("gpu_sections.loops"), load("gpu_sections.measuring").Bench(torch.device("cpu"), smoke=False)
    clock = itertools.count(step=0.25)
    monkeypatch.setattr(loops.time, "perf_counter", lambda: next(clock))
    laps = loops.Laps(bench, end=10.0)

    class Trainer:
        should_stop, global_step = False, 0

        class datamodule:
            class collector:
                env_step = 0

    steps = 0
    while not Trainer.should_stop:
        steps += 1
        Trainer.datamodule.collector.env_step = 100 * steps
        Trainer.global_step = 25 * steps
        laps.on_train_batch_end(Trainer)
        assert steps < 1_000
    assert len(laps.speeds) > 2
    # A look costs a quarter of a second, a look that laps two of them.
    assert all(100 / 0.5 < speed <= 100 / 0.25 for speed in laps.speeds)
    assert laps.updates_per_second * 4 == pytest.approx(sum(laps.speeds) / len(laps.speeds), rel=0.2)
