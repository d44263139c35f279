"""Proves that a run whose envs are played in Ray actors is the run that plays them itself, whichever actor dies.

    python tests/prove_places.py                       # 20 kills for each case; half an hour on two cores
    python tests/prove_places.py --kills 3 --cases cartpole

Each case trains in this process's way first, which is what all else is compared with: every tensor and number of the
last checkpoint, the replay, the generators, every logged point, every line of episodes.csv. Then in one and two actors
with one and two players each; with SIGKILL to actors at random moments; on a cluster of a head without CPUs and two
nodes, of which one is killed; and stopped by SIGTERM twice, begun in Ray, resumed here, and resumed in Ray. At last the
negative control: a killed actor whose envs begin anew, unsaid, which must come out different.
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from lit_dqn.playing.distant import DistantPlayers
from prove_resume import CASES as RESUMED
from prove_resume import CONFIGS, SEGMENT_BYTES, Phases, differences, fingerprints, finish, start

ATARI = [
    *RESUMED["pong"],
    "--data.num_envs=8",
    "--data.env_steps_per_update=2",
    "--data.capacity=2400",
    "--data.min_replay_size=800",
    "--stop.max_env_steps=2400",
    "--data.env_kwargs.life_loss_is_terminal=true",
]
CASES = {
    "cartpole": RESUMED["cartpole"],
    "cartpole_ahead": RESUMED["cartpole_ahead"],
    "cartpole_draws": RESUMED["cartpole_draws"],  # the network that acts has noise
    "pong": ATARI,
    "breakout": [*ATARI, "--data.env_id=ALE/Breakout-v5", "--data.play_ahead=true"],  # where lives are lost
}
LONGEST_PAUSE = dict.fromkeys(CASES, 1.2) | {"pong": 8.0, "breakout": 8.0}
"""Between two kills, in seconds."""
assert CONFIGS.is_dir()
PLACES = [(1, 8), (1, 4), (2, 4), (2, 2)]
"""(actors, envs of a player) of 8 envs: one and two actors with one and two players each."""


def in_ray(actors: int, envs_per_player: int, address: str = "local") -> list[str]:
    return [
        "--data.place=RayActors",
        f"--data.place.init_args.actors={actors}",
        f"--data.place.init_args.envs_per_player={envs_per_player}",
        f"--data.place.init_args.address={address}",
    ]


def train(
    command: list[str],
    folder: Path,
    meanwhile: Callable[[int], Any] = lambda child: None,
    begin: Callable[..., int] = start,
) -> dict[str, dict[str, str]]:
    """Train in a process of its own; what the run has left."""
    folder.mkdir(parents=True, exist_ok=True)
    child = begin(["fit", *command], folder, Phases(), folder / "output.txt")
    meanwhile(child)
    ended = finish(child)
    if ended != 0:
        sys.exit(f"exit code {ended}:\n{(folder / 'output.txt').read_text()[-3000:]}")
    return fingerprints(folder)


def begin_alone(command: list[str], folder: Path, phases: Phases, output: Path) -> int:
    """As `start`, but not forked: this process holds a cluster's threads."""
    code = f"from pathlib import Path; import prove_resume; segments = {SEGMENT_BYTES}; "
    code += "from lit_dqn.saving import sidecar_writer; sidecar_writer.SEGMENT_BYTES = segments; "
    code += "from lit_dqn.commands.cli import main; main()"
    paths = [str(Path(__file__).parent), *(str(Path(path).absolute()) for path in sys.path if path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    words = [sys.executable, "-c", code, *command, "--trainer.enable_progress_bar=false"]
    with output.open("w") as file:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=file, stderr=file).pid


def differs(one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]) -> list[str]:
    return [name for name in differences(one, other) if "datamodule_hyper_parameters/place" not in name]


def actors_of(child: int) -> list[psutil.Process]:
    """The actors that live, of a run that has begun Ray itself, or of this process's cluster."""
    found = []
    for parent in (child, os.getpid()):
        try:
            below = psutil.Process(parent).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        for process in below:
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::RayActor"):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                pass
    return found


class Killer:
    """Sends SIGKILL to random actors at random moments, until it has killed so many or the run has ended.

    Six actors that die before the same steps end a run, so the pauses are longer where an actor needs longer to begin.
    """

    def __init__(self, kills: int, seed: int, longest_pause: float) -> None:
        self.left, self.dice, self.longest_pause = kills, random.Random(seed), longest_pause

    def __call__(self, child: int) -> None:
        while self.left and running(child):
            alive = actors_of(child)
            if len(alive) < 2:  # the last killed one has not been replaced yet
                time.sleep(0.05)
                continue
            time.sleep(self.dice.uniform(0, self.longest_pause))
            if running(child) and (alive := actors_of(child)):
                self.dice.choice(alive).kill()
                self.left -= 1
                time.sleep(0.1)


def running(child: int) -> bool:
    try:
        return psutil.Process(child).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def train_with_kills(case: str, kills: int, seed: int, folder: Path, whole: dict[str, dict[str, str]]) -> list[str]:
    """What differs after so many kills; a run may end before the last of them, then there is another."""
    killer, found, runs = Killer(kills, seed, LONGEST_PAUSE[case]), [], 0
    while killer.left:
        runs += 1
        found += differs(whole, train([*CASES[case], *in_ray(2, 4)], folder / f"killed_{runs}", killer))
    return found


@contextmanager
def cluster() -> Iterator[tuple[str, list[Any], Any]]:
    """A head without CPUs and two nodes with one each."""
    from ray.cluster_utils import Cluster

    memory = 200 * 2**20
    head = {"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [made.add_node(num_cpus=2, object_store_memory=memory) for _ in range(2)]
        made.wait_for_nodes()
        yield made.address, nodes, made
    finally:
        made.shutdown()


def train_without_a_node(case: str, folder: Path) -> tuple[dict[str, dict[str, str]], int]:
    """What the run leaves of which a node was killed, and how many actors died with it."""
    with cluster() as (address, nodes, made):
        died = []

        def kill_a_node(child: int) -> None:
            checkpoints = "lightning_logs/*/*/checkpoints/env_step_*.ckpt"  # it plays, and is not done
            while running(child) and not (len(actors_of(child)) == 2 and any((folder / "node").glob(checkpoints))):
                time.sleep(0.05)
            by_raylet = [len([p for p in actors_below(node)]) for node in nodes]
            victim = max(range(2), key=lambda number: by_raylet[number])
            died.append(by_raylet[victim])
            made.remove_node(nodes[victim], allow_graceful=False)

        left = train([*CASES[case], *in_ray(2, 4, address)], folder / "node", kill_a_node, begin=begin_alone)
    return left, died[0]


def actors_below(node: Any) -> list[psutil.Process]:
    (raylet,) = node.all_processes["raylet"]
    return [
        process
        for process in psutil.Process(raylet.process.pid).children(recursive=True)
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::RayActor")
    ]


def train_here_and_there(case: str, folder: Path) -> dict[str, dict[str, str]]:
    """Begun in Ray, stopped, resumed here, stopped, resumed in Ray."""
    resume: list[str] = []
    for number, place in enumerate((in_ray(2, 4), ["--data.place=null"], in_ray(1, 4))):
        folder.mkdir(parents=True, exist_ok=True)
        last = number == 2
        phases = Phases() if last else Phases("learning", 25, signal.SIGTERM)
        child = start(["fit", *CASES[case], *place, *resume], folder, phases, folder / "output.txt")
        code = finish(child)
        if code != (0 if last else 128 + signal.SIGTERM):
            sys.exit(f"exit code {code}:\n{(folder / 'output.txt').read_text()[-3000:]}")
        resume = ["--ckpt_path=last"]
    return fingerprints(folder)


def train_with_an_actor_that_is_replaced(case: str, folder: Path) -> dict[str, dict[str, str]]:
    """One kill in mid-run; the new actor wrongly gets new envs instead of the state of the old ones."""
    ask, play, chunks = DistantPlayers._ask, DistantPlayers.play, itertools.count()

    def with_a_kill(*arguments: Any) -> None:
        if next(chunks) == 60:
            actors_of(os.getpid())[0].kill()
        play(*arguments)

    def as_if_new(self: Any, order: Any, player: int, weights: Any, states: Any) -> Any:
        if self._envs.was_played(player) and states:
            states = {**states, "running": [], "episode_of_env": [0] * self.num_envs}
        return ask(self, order, player, weights, states)

    DistantPlayers._ask, DistantPlayers.play = as_if_new, with_a_kill
    try:
        return train([*CASES[case], *in_ray(2, 4)], folder / "anew")
    finally:
        DistantPlayers._ask, DistantPlayers.play = ask, play


def prove(case: str, kills: int, seed: int, folder: Path) -> bool:
    """Run one case and print its rows of the table."""
    folder = folder / case
    whole = train(CASES[case], folder / "here")
    compared = sum(len(things) for things in whole.values())
    right = True

    def row(what: str, found: list[str], wants_none: bool = True, wants_deaths: bool = False) -> None:
        nonlocal right
        outputs = [path.read_text() for path in folder.glob("*/output.txt")]
        deaths = sum(output.count("died and is replaced") for output in outputs)
        right &= (not found) == wants_none and (deaths > 0) == wants_deaths
        different = f"{len(found)}{'' if wants_none else ' (must not be 0)'}"
        print(f"| {case} | {what} | {deaths} | {compared} | {different} |", flush=True)
        for name in found[: 10 if wants_none else 0]:
            print(f"    differs: {name}")
        for made in folder.iterdir():
            if made.name != "here":
                shutil.rmtree(made)

    for actors, envs_per_player in PLACES:
        left = train([*CASES[case], *in_ray(actors, envs_per_player)], folder / "ray")
        row(f"{actors} actors, {8 // envs_per_player} players", differs(whole, left))
    row(f"2 actors, {kills} SIGKILLs", train_with_kills(case, kills, seed, folder, whole), wants_deaths=kills > 0)
    row("begun in Ray, resumed here and in Ray", differs(whole, train_here_and_there(case, folder / "places")))
    # Whoever has held a cluster has its threads, and a child that is forked from it cannot start Ray.
    with ProcessPoolExecutor(1, get_context("fork")) as process:
        left, died = process.submit(train_without_a_node, case, folder).result()
    row(f"a node killed, with {died} of 2 actors", differs(whole, left), wants_deaths=True)
    row("a killed actor begins anew", differs(whole, train_with_an_actor_that_is_replaced(case, folder)), False, True)
    return right


def command_line() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of actors, in each case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["cartpole", "cartpole_ahead", "pong", "breakout"])
    parser.add_argument("--seed", type=int, default=None, help="of the moments; None: other ones each time")
    parser.add_argument("--folder", type=Path, default=None, help="where the runs are kept; None: nowhere")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed of the moments: {seed}\n")
    print("| case | played by | actors replaced | things compared | different |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        results = [prove(case, arguments.kills, seed, arguments.folder or Path(temporary)) for case in arguments.cases]
    sys.exit(not all(results))


if __name__ == "__main__":
    command_line()
