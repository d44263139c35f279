"""Proves that a run whose players play on by themselves is made again by its journal, also if it was killed.

    python tests/prove_journal.py                         # in Ray, 20 kills; some minutes
    python tests/prove_journal.py --place threads --kills 3

A run trains without a break; another with SIGKILL at random moments (as prove_resume.py has them), each time resumed
from its last checkpoint; in Ray a third one with SIGKILL to actors. What they have left is compared with what
`--replay_journal` makes of their journals, with one actor in place of two: every tensor and number of the last
checkpoint, the replay, the generators, every logged point, every line of episodes.csv. At last the negative control:
two neighbouring arrivals of a journal change places, which must come out different.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from lit_dqn.playing.journal import HEADER, lines_of, read_journal
from prove_places import Killer, in_ray, train
from prove_resume import CASES as RESUMED
from prove_resume import differences, fingerprints, train_with_kills, train_without_a_break

BOUNDS = ["--data.place.init_args.slack=2", "--data.place.init_args.max_staleness=4"]

CASES = {
    "cartpole": RESUMED["cartpole"],
    "prioritized": [word for word in RESUMED["cartpole_prioritized"] if word != "--data.play_ahead=true"],
    "noisy": [word for word in RESUMED["cartpole_draws"] if word != "--data.play_ahead=true"],
}


def played_by(place: str, actors: int) -> list[str]:
    """The words of a command line for players that play on."""
    words = in_ray(actors, 2)
    if place == "threads":
        words = ["--data.place=stand_in.FreePlace", *words[1:3]]
    return [*words, "--data.place.init_args.asynchronous=true", *BOUNDS]


def journal_of(folder: Path) -> Path:
    (journal,) = folder.glob("lightning_logs/*/*/journal.csv")
    return journal


def again(words: list[str], place: str, journal: Path, folder: Path) -> dict[str, dict[str, str]]:
    """What the run that follows a journal leaves."""
    return train([*words, *played_by(place, 1), f"--replay_journal={journal}"], folder)


def without_the_number_of_actors(one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]) -> list[str]:
    return [name for name in differences(one, other) if not name.endswith("place/init_args/actors")]


def with_two_arrivals_in_the_other_order(journal: Path, folder: Path) -> Path:
    arrivals = read_journal(journal)
    first = next(
        n
        for n in range(len(arrivals) // 2, len(arrivals))
        if arrivals[n].env != arrivals[n + 1].env and arrivals[n].training_step == arrivals[n + 1].training_step
    )
    one, other = arrivals[first : first + 2]
    arrivals[first : first + 2] = [other._replace(number=first), one._replace(number=first + 1)]
    changed = folder / "changed.csv"
    changed.write_text(f"{HEADER}\n{lines_of(arrivals)}")
    return changed


def prove(case: str, place: str, kills: int, seed: int, folder: Path) -> bool:
    """Run one case and print its rows of the table."""
    words, folder = CASES[case], folder / case
    live = [*words, *played_by(place, 2)]
    right = True

    def row(what: str, number: int, found: list[str], compared: int, wants_none: bool = True) -> None:
        nonlocal right
        right &= (not found) == wants_none
        different = f"{len(found)}{'' if wants_none else ' (must not be 0)'}"
        print(f"| {case} | {what} | {number} | {compared} | {different} |", flush=True)
        for name in found[: 10 if wants_none else 0]:
            print(f"    differs: {name}")

    counts, seconds = train_without_a_break(live, folder / "whole")
    whole, journal = fingerprints(folder / "whole"), journal_of(folder / "whole")
    compared = sum(len(things) for things in whole.values())
    arrivals = len(read_journal(journal))
    row(
        "without a break",
        arrivals,
        without_the_number_of_actors(whole, again(words, place, journal, folder / "whole_again")),
        compared,
    )
    done, runs = 0, 0
    while done < kills:
        runs += 1
        pieces = folder / f"killed_{runs}"
        killed = train_with_kills(live, pieces, kills - done, counts, seconds, seed + runs)
        done += killed.total()
        journal = journal_of(pieces)
        found = without_the_number_of_actors(
            fingerprints(pieces), again(words, place, journal, folder / f"killed_{runs}_again")
        )
        row(f"{killed.total()} SIGKILLs, each resumed", len(read_journal(journal)), found, compared)
    if place == "ray":
        left = train(live, folder / "actors", Killer(3, seed, 1.2))
        journal = journal_of(folder / "actors")
        found = without_the_number_of_actors(left, again(words, place, journal, folder / "actors_again"))
        row("3 SIGKILLs of actors", len(read_journal(journal)), found, compared)
    journal = with_two_arrivals_in_the_other_order(journal_of(folder / "whole"), folder)
    found = without_the_number_of_actors(whole, again(words, place, journal, folder / "changed"))
    row("two arrivals change places", arrivals, found, compared, wants_none=False)
    return right


def command_line() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the process that learns, in each case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--place", choices=["ray", "threads"], default="ray")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; None: other ones each time")
    parser.add_argument("--folder", type=Path, default=None, help="where the runs are kept; None: nowhere")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed of the moments: {seed}\n")
    print("| case | the run | arrivals | things compared | different when made again |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        results = [prove(case, arguments.place, arguments.kills, seed, folder) for case in arguments.cases]
    sys.exit(not all(results))


if __name__ == "__main__":
    command_line()
