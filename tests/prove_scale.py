"""Proves that a run of four shards is the same bytes on 1, 2 and 4 processes, whoever is stopped or killed in between.

    python tests/prove_scale.py            # all of it, some forty minutes on two cores
    python tests/prove_scale.py --short    # one case: two processes, one of them stopped, one killed under torchrun

CartPole (noise, numbers that are drawn, priorities) trains on 1, 2 and 4 processes without a break. For each pair a run
is stopped by SIGTERM to one of its processes at a random moment: all must save and end with 143, and the other number
of processes resumes it. SIGKILL of one of two: the other must end with 2 and a sentence, and four resume. SIGSTOP of
one: the other must notice that it is silent. Under torchrun one process is killed, and the run must go on and end by
itself; by SLURM's variables and by Lightning's launcher a run must be the same. Breakout with the loss of a life as an
end of an episode, and Taxi with action masks, played ahead, do some of that.

Processes are forked, for importing takes longer than a run; those of launchers are commands. What is left is compared
with the run on one process as `prove_resume.py` does: weights, optimiser, replay, generators, points, episodes. A
negative control, of which one shard draws its batches from another generator, must come out different. With
`data.strict: false` two and four processes are compared with as many: stopped, killed, resumed; and with one.
"""

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hosts import ADDRESSES, ENVIRONMENT, Hosts, two_hosts, why_not
from lit_dqn.commands.cli import main
from lit_dqn.ranks import LOST
from prove_resume import CASES as OF_RESUME
from prove_resume import can_be_played, differences, fingerprints

SOURCE = Path(__file__).parent.parent / "src"
SMALL = ["--data.shards=4", "--trainer.enable_progress_bar=false"]
CASES = {
    "cartpole": [*OF_RESUME["cartpole_shards"], "--data.updates_per_epoch=40", "--stop.max_env_steps=1600", *SMALL],
    "breakout": [
        *OF_RESUME["pong"],
        "--data.env_id=ALE/Breakout-v5",
        "--data.env_kwargs={life_loss_is_terminal: true}",
        "--data.eval_episodes=3",
        *SMALL,
    ],
    "taxi": [
        *OF_RESUME["taxi"],
        "--data.capacity=1600",
        "--data.updates_per_epoch=40",
        "--stop.max_env_steps=1600",
        *SMALL,
    ],
}
CASES["cartpole_not_strict"] = [*CASES["cartpole"], "--data.strict=false"]
SHORT = [  # seconds of training
    "--config=cartpole",
    "--data.capacity=1600",
    "--data.min_replay_size=400",
    "--data.batch_size=32",
    "--data.updates_per_epoch=40",
    "--data.eval_episodes=3",
    "--data.eval_max_steps=60",
    "--stop.max_env_steps=1600",
    "--trainer.log_every_n_steps=3",
    *SMALL,
]
SAVED, DIED, GONE = 128 + signal.SIGTERM, -signal.SIGKILL, 2
SILENT = 40
"""Seconds after which a process takes another for gone."""
RUN_SECONDS = 900
"""After which whatever hangs is killed; a crowded machine is slow."""

ANOTHER_GENERATOR = """
import sys
from lit_dqn.training import data
from lit_dqn.playing.seeds import sampling_generator
data.sampling_generator = lambda seed, shard: sampling_generator(seed, 7 if shard == 2 else shard)
from lit_dqn.commands.cli import main
main(sys.argv[1:])
"""


# --- the processes of a run ---


def environment(**more: object) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE), **{name: str(value) for name, value in more.items()}}
    return os.environ | own


def begin(command: Sequence[str], folder: Path, name: str, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process whose words are in `<name>.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.txt").open("a") as output:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)


class Forked:
    """A process of a run, with the part of `subprocess.Popen` that is needed here; importing would take longer than it.

    Args:
        words: of the command line.
        folder: where it runs.
        name: its words are in `<name>.txt`.
        variables: of its environment.
        enter: what it does first.

    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        name: str,
        variables: dict[str, str],
        enter: Callable[[], None] = lambda: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                enter()
                os.chdir(folder)
                for stream in (1, 2):
                    os.dup2(os.open(f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest has its own
                os.environ.update(variables)
                main(words)
                code = 0
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = RUN_SECONDS) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("fit", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = subprocess.Popen[bytes] | Forked


def start_on(hosts: Hosts, settings: Sequence[str], folder: Path) -> list[Process]:
    """Two processes of a run, each on a host of its own."""
    words = ["fit", *settings, "--trainer.strategy=ddp", "--trainer.devices=1", "--trainer.num_nodes=2"]
    address = {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": 29500, "WORLD_SIZE": 2, "LOCAL_RANK": 0, **ENVIRONMENT}
    return [
        Forked(words, folder, f"host_{host}", environment(NODE_RANK=host, **address), partial(hosts.enter, host))
        for host in (0, 1)
    ]


def start_by_torchrun_on(hosts: Hosts, settings: Sequence[str], folder: Path) -> list[Process]:
    """torchrun on each of two hosts, with a process each."""
    processes: list[Process] = []
    for host in (0, 1):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:29400", "--rdzv-id=run"]
        # torchrun would tell by the machine's name which of them has the rendezvous.
        command += [
            f"--local-addr={ADDRESSES[host]}",
            f"--rdzv-conf=is_host={host == 0}",
            "--max-restarts=2",
            "-m",
            "lit_dqn",
            "fit",
            *settings,
        ]
        command += ["--trainer.strategy=ddp", "--trainer.devices=1", "--trainer.num_nodes=2"]
        processes.append(begin(hosts.on(host, command), folder, f"torchrun_{host}", environment(**ENVIRONMENT)))
    return processes


def start(settings: Sequence[str], ranks: int, folder: Path, slurm: bool = False) -> list[Process]:
    """The processes of a run, each begun by itself, as launchers do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["fit", *settings, "--trainer.strategy=ddp", f"--trainer.devices={ranks}"]
    processes: list[Process] = []
    for rank in range(ranks):
        own = {"WORLD_SIZE": ranks, "NODE_RANK": 0, "LOCAL_RANK": rank}
        if slurm:
            own = {"SLURM_NTASKS": ranks, "SLURM_NTASKS_PER_NODE": ranks, "SLURM_NNODES": 1, "SLURM_JOB_NAME": "run"}
            own |= {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": 0, "SLURM_NODELIST": "localhost"}
        variables = environment(**own, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        if slurm:
            processes.append(begin([sys.executable, "-m", "lit_dqn", *words], folder, f"rank_{rank}", variables))
        else:
            processes.append(Forked(words, folder, f"rank_{rank}", variables))
    return processes


def finish(processes: Sequence[Process]) -> list[int]:
    """The exit codes; whoever is not done in time is killed."""
    until = time.monotonic() + RUN_SECONDS
    try:
        return [process.wait(max(until - time.monotonic(), 0.1)) for process in processes]
    except subprocess.TimeoutExpired:
        return [DIED]
    finally:
        for process in processes:
            process.kill()


def said(folder: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("*.txt")))


def train(settings: Sequence[str], ranks: int, folder: Path, slurm: bool = False) -> None:
    codes = finish(start(settings, ranks, folder, slurm))
    if codes != [0] * ranks:
        sys.exit(f"a run on {ranks} processes ended with {codes}:\n{said(folder)}")


def checkpoints_of(folder: Path) -> set[Path]:
    return set(folder.glob("lightning_logs/*/*/checkpoints/env_step_*.ckpt"))


def wait_for_a_checkpoint(processes: Sequence[Process], folder: Path, dice: random.Random) -> None:
    """Until some moments after the first one."""
    until = time.monotonic() + RUN_SECONDS
    while not checkpoints_of(folder) and time.monotonic() < until:
        if any(process.poll() is not None for process in processes):
            sys.exit(f"a run ended before its first checkpoint:\n{said(folder)}")
        time.sleep(0.02)
    time.sleep(dice.uniform(0, 0.5))


class Proof:
    """One case, on some numbers of processes, and what was wrong with it.

    Args:
        name: of the case.
        settings: of `fit`.
        folder: where the runs are kept.
        dice: of the moments.
        ranks: processes of the run that all else is compared with.

    """

    def __init__(self, name: str, settings: Sequence[str], folder: Path, dice: random.Random, ranks: int = 1) -> None:
        self.name, self.settings, self.folder, self.dice = name, settings, folder, dice
        whole = folder / f"compared_{ranks}"
        train(settings, ranks, whole)
        self.whole = fingerprints(whole)
        self.is_right = True

    def expect(self, right: bool, folder: Path) -> None:
        if not right:
            self.is_right = False
            print(f"not as it should be:\n{said(folder)}")

    def compare(self, what: str, folder: Path, remark: str = "", expect_same: bool = True) -> None:
        different = differences(self.whole, fingerprints(folder))
        compared = sum(map(len, self.whole.values()))
        print(f"| {self.name} | {what} | {remark} | {compared} | {len(different)} |", flush=True)
        for thing in different[:10] if expect_same else ():
            print(f"    differs: {thing}")
        self.expect((not different) is expect_same, folder)

    def without_a_break(self, ranks: int, slurm: bool = False, expect_same: bool = True) -> None:
        folder = self.folder / f"whole_{ranks}{'_slurm' * slurm}"
        train(self.settings, ranks, folder, slurm)
        self.compare(f"{ranks} processes{' by SLURM' * slurm}", folder, expect_same=expect_same)

    def by_lightning(self, ranks: int) -> None:
        """One process, which begins the others."""
        folder = self.folder / "lightning"
        command = [sys.executable, "-m", "lit_dqn", "fit", *self.settings, "--trainer.strategy=ddp"]
        process = begin([*command, f"--trainer.devices={ranks}"], folder, "all", environment())
        self.expect(finish([process]) == [0], folder)
        self.compare(f"{ranks} processes by Lightning", folder)

    def stopped(self, number: int, ranks: int, other: int) -> None:
        """A signal to one of the processes, and another number of them goes on."""
        name = signal.Signals(number).name
        folder = self.folder / f"{name}_{ranks}_{other}"
        processes = start(self.settings, ranks, folder)
        wait_for_a_checkpoint(processes, folder, self.dice)
        began, hit = time.monotonic(), processes[self.dice.randrange(ranks)]
        hit.send_signal(number)
        codes = finish([process for process in processes if number != signal.SIGSTOP or process is not hit])
        seconds = time.monotonic() - began
        if number == signal.SIGTERM:
            self.expect(codes == [SAVED] * ranks, folder)
        elif number == signal.SIGKILL:
            self.expect(sorted(codes) == [DIED, *[GONE] * (ranks - 1)], folder)
        else:
            hit.kill()
            hit.wait()
            self.expect(codes == [GONE] * (ranks - 1) and "is silent for" in said(folder), folder)
        if number != signal.SIGTERM:
            self.expect("another process of this run has ended or cannot be reached" in said(folder), folder)
            self.expect(seconds < 60, folder)
        train([*self.settings, "--ckpt_path=last"], other, folder)
        remark = f"ended with {', '.join(map(str, codes))} in {seconds:.1f} s"
        self.compare(f"{name} to one of {ranks}, resumed on {other}", folder, remark)

    def restarted(self, ranks: int) -> None:
        """One process of torchrun's is killed, and torchrun begins all anew."""
        folder = self.folder / "torchrun"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += ["--max-restarts=1", "-m", "lit_dqn", "fit", *self.settings, "--trainer.strategy=ddp"]
        launcher = begin([*command, f"--trainer.devices={ranks}"], folder, "torchrun", environment())
        wait_for_a_checkpoint([launcher], folder, self.dice)
        workers = children_of(launcher.pid)
        os.kill(self.dice.choice(workers), signal.SIGKILL)
        codes = finish([launcher])
        self.expect(codes == [0] and len(workers) == ranks and "resume: " in said(folder), folder)
        self.compare(f"SIGKILL of one of {ranks} under torchrun", folder, f"ended with {codes[0]}")

    def on_two_hosts(self, hosts: Hosts, cut: tuple[str, float] | None = None, by_torchrun: bool = False) -> None:
        """A process on each, with the cable cut for some seconds; alone they end when that is long."""
        way, seconds = cut or ("", 0.0)
        what = f"2 hosts{' by torchrun' * by_torchrun}{f', cut off for {seconds:.0f} s by {way}' if cut else ''}"
        folder = self.folder / re.sub(r"\W+", "_", what)
        processes = (start_by_torchrun_on if by_torchrun else start_on)(hosts, self.settings, folder)
        ended: dict[int, float] = {}
        if cut:
            wait_for_a_checkpoint(processes, folder, self.dice)
            began = time.monotonic()
            hosts.cut(way)
            try:
                while (after := time.monotonic() - began) < seconds:
                    for host, process in enumerate(processes):
                        if process.poll() is not None:
                            ended.setdefault(host, after)
                    time.sleep(0.1)
            finally:
                hosts.mend(way)
        codes = finish(processes)
        remark = f"ended with {', '.join(map(str, codes))}"
        if seconds < SILENT:
            self.expect(codes == [0, 0], folder)
        elif by_torchrun:  # whose agents cannot talk either, and restart both if they find each other again in time
            restarted = codes == [0, 0] and "resume: " in said(folder)
            self.expect(restarted or codes == [1, 1], folder)
            remark += ", resumed automatically" * restarted
        else:
            self.expect(codes == [GONE, GONE] and len(ended) == 2 and max(ended.values()) < 60, folder)
            remark += f" after {' and '.join(f'{after:.1f} s' for after in ended.values())}"
        if seconds >= SILENT:  # torchrun writes much below it
            sentences = sum(path.read_text().count(LOST) for path in folder.glob("*.txt"))
            self.expect(sentences == 2, folder)
        if any(codes):
            train([*self.settings, "--ckpt_path=last"], 1, folder)
            remark += ", resumed on 1"
        self.compare(what, folder, remark)

    def negative_control(self) -> None:
        folder = self.folder / "control"
        process = begin([sys.executable, "-c", ANOTHER_GENERATOR, "fit", *self.settings], folder, "all", environment())
        self.expect(finish([process]) == [0], folder)
        self.compare("negative control", folder, "shard 2 draws from another generator", expect_same=False)


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in re.findall(r"(\d+)\s+(\d+)", found) if int(parent) == pid]


def prove(short: bool, cases: Sequence[str], seed: int, folder: Path) -> bool:
    """Print the table; whether all is as it should be."""
    dice = random.Random(seed)
    if short:
        proof = Proof("cartpole, small", SHORT, folder, dice)
        proof.stopped(signal.SIGTERM, 2, 4)
        proof.restarted(2)
        proof.negative_control()
        return proof.is_right
    right = True
    for name in cases:
        if name == "cartpole_not_strict":
            right = not_strict(name, folder / name, dice) and right
            continue
        proof = Proof(name, CASES[name], folder / name, dice)
        proof.without_a_break(2)
        proof.without_a_break(4)
        pairs = [(2, 4), (4, 1)]
        if name == "cartpole":
            on_hosts(proof)
            proof.without_a_break(2, slurm=True)
            proof.by_lightning(2)
            pairs = [(one, other) for one in (1, 2, 4) for other in (1, 2, 4) if one != other]
            proof.stopped(signal.SIGSTOP, 2, 2)
        for one, other in pairs:
            proof.stopped(signal.SIGTERM, one, other)
        proof.stopped(signal.SIGKILL, 2, 4)
        proof.restarted(2)
        proof.negative_control()
        right = right and proof.is_right
    return right


def not_strict(name: str, folder: Path, dice: random.Random) -> bool:
    """The same number of processes gives the same bytes; one process another sum than four, but a + b = b + a."""
    proofs = [Proof(f"{name}, {ranks}", CASES[name], folder / str(ranks), dice, ranks) for ranks in (2, 4)]
    for ranks, proof in zip((2, 4), proofs, strict=True):
        proof.without_a_break(ranks)
        for number in (signal.SIGTERM, signal.SIGKILL):
            proof.stopped(number, ranks, ranks)
        proof.without_a_break(1, expect_same=ranks == 2)
    return all(proof.is_right for proof in proofs)


def on_hosts(proof: Proof) -> None:
    """Two hosts whose cable is cut for a moment and for long."""
    reason = why_not()
    if reason is not None:
        print(f"\nno two hosts: {reason}")
        return
    with two_hosts() as hosts:
        for by_torchrun in (False, True):
            proof.on_two_hosts(hosts, None, by_torchrun)
            for way in ("link", "loss"):
                for seconds in (10, 120):
                    proof.on_two_hosts(hosts, (way, seconds), by_torchrun)


def command_line() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=None, help="of the moments; None: other ones each time")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed of the moments: {seed}\n\n| case | run | how it ended | compared | different |\n|---|---|---|---|---|")
    playable = {"breakout": "pong"}
    cases = [case for case in arguments.cases if can_be_played(playable.get(case, case))]
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(not prove(arguments.short, cases, seed, Path(temporary)))


if __name__ == "__main__":
    command_line()
