"""The figures as Markdown. For the standard library alone."""

import textwrap
from typing import Any

from processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
MARKS = "<!-- gpu: written by benchmarks/gpu.py --docs -->", "<!-- /gpu -->"
NOT_MEASURED = "not measured"
WORK = "Double DQN, Nature CNN, batch 32, an update for 4 agent steps, sticky Pong"
HEADLINES: list[tuple[str, str, str, str | None, str]] = [
    (
        f"{WORK}: 8 envs in turn",
        "loops",
        "8 envs, in turn, 32-true",
        "8 envs, in turn, 32-true, eager, replay on the host",
        "4,600",
    ),
    (
        "64 envs, playing ahead",
        "loops",
        "64 envs, ahead, 32-true",
        "64 envs, ahead, 32-true, eager, replay on the host",
        "10,000",
    ),
    ("the same, bf16-mixed", "loops", "64 envs, ahead, bf16-mixed", None, "10,000"),
    ("64 envs in turn", "loops", "64 envs, in turn, 32-true", None, "4,600"),
    (
        "64 envs, playing ahead, 1,000,000 timesteps",
        "loops",
        "64 envs, ahead, 32-true, replay of 1,000,000",
        None,
        "10,000",
    ),
    (
        "DQN as Stable-Baselines3 has it, 64 envs, playing ahead",
        "peers",
        "lit_dqn, 64 envs, ahead, 32-true",
        "Stable-Baselines3",
        "",
    ),
    (
        "an update, batch 32, float32",
        "updates",
        "Nature CNN, batch 32, float32, graph",
        "Nature CNN, batch 32, float32, plain torch",
        "",
    ),
    (
        "an update, batch 32, bf16-mixed",
        "updates",
        "Nature CNN, batch 32, bf16-mixed, graph",
        "Nature CNN, batch 32, bf16-mixed, plain torch",
        "",
    ),
    (
        "an update, batch 512, float32",
        "updates",
        "Nature CNN, batch 512, float32, graph",
        "Nature CNN, batch 512, float32, plain torch",
        "",
    ),
    ("actions of 64 envs", "acting", "64 observations, graph", "64 observations, eager", ""),
    (
        "8 batches of 32 out of 1,000,000 timesteps",
        "ring",
        "8 batches of 32: looked up on the host, gathered on the device",
        "8 batches of 32: sampled on the host, sent pinned",
        "",
    ),
    ("games alone, 64 envs", "games", "64 envs", None, ""),
    ("killed and resumed, in turn", "resuming", "in turn", None, "0"),
    ("killed and resumed, playing ahead", "resuming", "ahead", None, "0"),
]
"""Words, section, case, how the names of its baselines begin, goal."""


def number(value: float | str | None) -> str:
    """Three digits, or all before the point."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(record: dict[str, Any]) -> str:
    """All figures, what failed, and what was cut."""
    machine = ", ".join(f"{name} {word}" for name, word in record.get("machine", {}).items())
    smoke = " (a smoke test: the figures mean nothing)" if record.get("smoke") else ""
    lines = [
        f"`{record['command']}`, {record['date']}, {record.get('took', 0):.0f} s{smoke}",
        "",
        f"{record.get('card', 'no device was found')}: {machine}",
        "",
        "| section | case | median | unit | low to high | notes |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["figures"]:
        notes = ", ".join(f"{name} {value}" for name, value in row["notes"].items())
        spread = f"{number(row['low'])} to {number(row['high'])}" if row["low"] is not None else ""
        words = (row["section"], row["case"], number(row["median"]), row["unit"], spread, notes)
        lines.append(f"| {' | '.join(words)} |")
    for row in record["failed"]:
        error = row["error"].replace("|", "\\|")
        lines.append(f"| {row['section']} | {row['case']} | **failed** | | | after {row['took']} s: {error} |")
    for section, cases in missing(record).items():
        lines.append(f"| {section} | {'; '.join(cases)} | cut | | | |")
    return "\n".join(lines) + "\n"


def missing(record: dict[str, Any]) -> dict[str, list[str]]:
    """What was planned and neither measured nor failed, by section."""
    known = {(row["section"], row["case"]) for row in record["figures"] + record["failed"]}
    begun = {section for section, _ in record["planned"]} | {section for section, _ in known}
    found = {section: ["all of it"] for section in record["sections"] if section not in begun}
    for section, case in record["planned"]:
        if (section, case) not in known:
            found.setdefault(section, []).append(case)
    return found


def merged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs on each card as one, the last card first: of a case that was measured twice, the later figure."""
    cards: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        cards.setdefault(record["card"], []).append(record)
    return [_one_record(runs) for runs in reversed(cards.values())]


def _one_record(runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures = {(row["section"], row["case"]): row for run in runs for row in run["figures"]}
    commands = "`, `".join(run["command"] for run in runs)
    return {**runs[-1], "command": commands, "figures": list(figures.values())}


def headlines(record: dict[str, Any] | None) -> str:
    """The figures that matter most, each beside its baseline; without a record, what will be measured."""
    figures = {(row["section"], row["case"]): row for row in record["figures"]} if record else {}
    lines = ["| work | lit_dqn | low to high | baseline | times as fast | goal |", "|---|---|---|---|---|---|"]
    for words, section, case, baseline, goal in HEADLINES:
        row = figures.get((section, case))
        others = [
            other for name, other in figures.items() if name[0] == section and name[1].startswith(baseline or "-")
        ]
        ours = theirs = spread = ratio = ""
        if row is None and record is not None:
            continue
        if row is None:
            ours = NOT_MEASURED
        else:
            ours = f"**{number(row['median'])}** {row['unit']}"
            spread = f"{number(row['low'])} to {number(row['high'])}" if row["low"] is not None else ""
        if baseline:
            theirs = NOT_MEASURED
        if others:
            slower = row is not None and row["unit"] == "ms"
            best = (min if slower else max)(others, key=lambda other: other["median"])
            theirs = f"{number(best['median'])}, {best['case']}"
            if row is not None:
                ratio = number(best["median"] / row["median"] if slower else row["median"] / best["median"])
        lines.append(f"| {words} | {ours} | {spread} | {theirs} | {ratio} | {goal} |")
    return "\n".join(lines)


def write_page(records: list[dict[str, Any]]) -> None:
    """Write the headlines of each card between the page's marks; without a record, what will be measured."""
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    tables = [f"{said(record)}{headlines(record)}" for record in records] or [headlines(None)]
    written = "\n\n".join(tables)
    PAGE.write_text(f"{before}{MARKS[0]}\n{written}\n{MARKS[1]}{after}")


def said(record: dict[str, Any]) -> str:
    """On which machine, by which command."""
    machine = ", ".join(f"{name} {word}" for name, word in record["machine"].items())
    words = f"{record['card']}, {record['date']}, `{record['command']}`; {machine}."
    return textwrap.fill(words, 120, break_on_hyphens=False, break_long_words=False) + "\n\n"
