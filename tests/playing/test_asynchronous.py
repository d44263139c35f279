"""Players that play on by themselves: bounds that hold both ways, and a journal by which the same run is made again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from test_places import ENVS, SEED, Learning, assert_no_transition_joins_episodes, assert_same, collector_of, play

from helpers import make_agent, make_data, make_trainer, run, same, tiny, verify_checkpoint
from lit_dqn import EpsilonGreedy, Prioritized, RayActors, ReplayCheckpointIO
from lit_dqn.callbacks import journal_writer
from lit_dqn.envs import make_vec
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.playing.asynchronous import Asynchronous
from lit_dqn.playing.journal import HEADER, Arrival, lines_of, read_journal
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import Greedy
from lit_dqn.playing.seeds import exploration_generator
from lit_dqn.saving.checkpoint import Checkpoint
from stand_in import STROLL, FreePlace, ThreadPlace

STEPS = 5
CHUNK = STEPS * ENVS
"""Env steps that a training step learns for."""


class Restless(Learning):
    """An agent that prefers other actions after each training step."""

    def __init__(self):
        super().__init__(STROLL)
        self.generator = torch.Generator().manual_seed(2)

    def learn(self):
        with torch.no_grad():
            for weight in self.online.parameters():
                weight.normal_(generator=self.generator)


def played_on(place, journal=None, training_steps=24):
    """A collector whose players have played on while an agent learned, and what let them."""
    agent = Restless()
    collector = collector_of(STROLL, place)
    collector.warm_up(agent, 20 * ENVS, 40)
    asynchronous = Asynchronous(collector, place, CHUNK, journal)
    asynchronous.leads = []
    for _ in range(training_steps):
        asynchronous.collect(agent, CHUNK)
        asynchronous.leads.append(asynchronous.state_dict()["lead"])
        agent.learn()
    collector.close()
    return collector, asynchronous


UNEVEN = {"fast learner": (0.002, 0.006, 0.0, 0.001), "fast players": ()}


@pytest.fixture(scope="module", params=[pytest.param("fast learner", marks=pytest.mark.slow), "fast players"])
def live(request):
    """(collector, asynchronous, journal) of players some of which are slower than others."""
    collector, asynchronous = played_on(FreePlace(4, 2, seconds=UNEVEN[request.param], slack=2, max_staleness=3))
    return collector, asynchronous, list(asynchronous.new)


def test_playing_and_learning_are_never_further_apart_than_the_slack(live):
    _, asynchronous, journal = live
    assert max(map(abs, asynchronous.leads)) <= 2 * CHUNK
    played = np.cumsum([arrival.steps * arrival.envs for arrival in journal])
    learned = np.array([arrival.training_step for arrival in journal]) * CHUNK
    assert (played - learned).max() <= 2 * CHUNK
    assert played[-1] >= (24 - 2) * CHUNK


def test_whoever_is_ahead_waits(live, request):
    _, asynchronous, _ = live
    learner_waits = "learner" in request.node.callspec.id
    # The one that is ahead is held at the bound, or at the last chunk before it.
    assert (min(asynchronous.leads) < -CHUNK) == learner_waits or not learner_waits
    assert len(set(asynchronous.leads)) > 1


def test_no_weights_are_older_than_the_bound(live):
    _, _, journal = live
    ages = [arrival.training_step - arrival.weights for arrival in journal]
    assert 0 < max(ages) <= 3
    assert min(ages) >= 0


def test_players_that_are_faster_play_more_and_no_transition_joins_episodes(live):
    collector, _, journal = live
    steps = np.bincount([arrival.env for arrival in journal], minlength=ENVS)[::2]
    assert steps.min() > 0
    assert collector.env_step == 20 * ENVS + sum(arrival.steps * arrival.envs for arrival in journal)
    assert collector.env_step > 1.5 * 400  # the replay has come round
    assert_no_transition_joins_episodes(collector)


def test_columns_of_the_replay_that_come_round_at_their_own_speeds_hold_whole_episodes():
    """A journal by hand: of four chunks one player plays three, the others take turns."""
    journal = [
        Arrival(4 * step + n, step + 1, 0 if n < 3 else 2 * (1 + step % 3), 2, STEPS, step + 1, 40)
        for step in range(30)
        for n in range(4)
    ]
    collector, _ = played_on(FreePlace(1, 2), journal, training_steps=30)
    rows = collector.store.buffer._head
    assert rows[0] > 5 * rows[2] / 2
    assert_no_transition_joins_episodes(collector)


PLACES = [(1, 0.0), (2, 0.001), (4, 0.0)]


@pytest.mark.parametrize(("actors", "seconds"), PLACES)
def test_a_journal_makes_the_same_run_again_wherever_it_is_played(live, actors, seconds):
    collector, asynchronous, journal = live
    place = FreePlace(actors, 2, seconds=(seconds,), slack=2, max_staleness=3)
    again, other = played_on(place, journal)
    assert_same(collector, again)
    assert list(other.new) == journal
    assert other.state_dict() == asynchronous.state_dict()


def test_whoever_dies_the_journal_makes_the_same_run_again():
    def died(actor, chunk):
        return (actor, chunk) in {(0, 3), (1, 5.5), (1, 9), (0, 20.5)}

    collector, asynchronous = played_on(FreePlace(2, 2, dies=died, seconds=(0.001, 0.002)))
    assert collector.players.deaths == 4
    for dies in (lambda actor, chunk: False, died):
        again, _ = played_on(FreePlace(2, 2, dies=dies), list(asynchronous.new))
        assert_same(collector, again)


def changed(journal, number, **fields):
    return [*journal[:number], journal[number]._replace(**fields), *journal[number + 1 :]]


def swapped(journal):
    """Two arrivals of different players in the other order."""
    first = next(
        n
        for n in range(20, len(journal))
        if journal[n].env != journal[n + 1].env and journal[n].training_step == journal[n + 1].training_step
    )
    one, other = journal[first : first + 2]
    return [
        *journal[:first],
        other._replace(number=first),
        one._replace(number=first + 1),
        *journal[first + 2 :],
    ]


def older(journal):
    """Many chunks by weights of one training step before."""
    return [a._replace(weights=max(a.weights - 1, 1)) if a.training_step > 10 else a for a in journal]


def test_a_journal_that_was_changed_makes_another_run(live):
    collector, _, journal = live
    for other in (swapped(journal), older(journal)):
        again, _ = played_on(FreePlace(4, 2, slack=3, max_staleness=3), other)
        with pytest.raises(AssertionError):
            assert_same(collector, again)


def test_a_journal_that_ends_ends_the_run(live):
    with pytest.raises(TrainingError, match=r"replay_journal: it ends at arrival 12, and training step \d needs more"):
        played_on(FreePlace(4, 2, slack=2), live[2][:12])


def test_a_journal_of_other_players_is_refused(live):
    with pytest.raises(ConfigError, match=r"it tells of env \d in a player with 2, and this run has 8 envs with 4 in"):
        played_on(FreePlace(2, 4), live[2])

    with pytest.raises(ConfigError, match=rf"it tells of chunks of {2**61} steps of each env, and this run has chunks"):
        played_on(FreePlace(4, 2), changed(live[2], 30, steps=2**61))


def test_a_journal_that_orders_more_than_the_slack_ends_the_run(live):
    hoarded = [arrival._replace(weights=1, training_step=24) for arrival in live[2]]
    with pytest.raises(
        TrainingError, match=r"at training step 1 its players are \d+ env steps ahead, and slack allows"
    ):
        played_on(FreePlace(4, 2, slack=2), hoarded)


# --- the file ---


def test_what_is_written_is_read(tmp_path):
    arrivals = [Arrival(0, 1, 0, 2, 5, 1, 40), Arrival(1, 3, 2, 2, 5, 1, 40), Arrival(2, 3, 0, 2, 5, 2, 60)]
    path = tmp_path / "journal.csv"
    path.write_text(f"{HEADER}\n{lines_of(arrivals)}3,3,0")  # a killed run leaves half a line
    assert read_journal(path) == arrivals


GOOD = "0,1,0,2,5,1,40"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "does not begin with the line"),
        ("number\n", "does not begin with the line"),
        (f"{HEADER}\n{GOOD},1\n", "says in line 2 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n__import__('os'),1,0,2,5,1,40\n", "says in line 3 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n-1,1,0,2,5,1,40\n", "says in line 3 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n1{'0' * 30},1,0,2,5,1,40\n", "says in line 3 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n2,1,0,2,5,1,40\n", "arrival 2 follows 0: some are missing"),
        (f"{HEADER}\n0,2,0,2,5,1,40\n1,1,0,2,5,1,40\n", "what comes before what it follows from"),
        (f"{HEADER}\n0,2,0,2,5,3,40\n", "what comes before what it follows from"),
        (f"{HEADER}\n0,2,0,2,5,2,40\n1,3,0,2,5,1,40\n", "what no player plays"),
        (f"{HEADER}\n0,2,0,2,0,2,40\n", "what no player plays"),
        (f"{HEADER}\n{GOOD}\n\xe4\n", "says in line 3 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n{GOOD}\n", "arrival 0 follows 0: some are missing"),
        (f"{HEADER}\n{GOOD}\n1{'0' * 5000},1,0,2,5,1,40\n", "says in line 3 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n{'a' * 10**6}\n", "says in line 3 other than 7 numbers"),
        (f"{HEADER}\n{GOOD}\n{'0' * 10**6}", "says in line 3 other than 7 numbers"),
        (f'{HEADER}\n"0","1","0","2","5","1","40"\n', "says in line 2 other than 7 numbers"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path, text, message):
    path = tmp_path / "journal.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="replay_journal: ") as refused:
        read_journal(path)
    assert message in str(refused.value)


def test_only_a_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is not a file"):
            read_journal(path)


# --- how each env explores ---


def test_epsilon_spreads_over_the_envs_as_that_of_ape_x():
    """Horgan et al. (2018), section 4.1, of 8 actors: ε 0.4, α 7."""
    expected = [0.4, 0.16, 0.064, 0.0256, 0.01024, 0.004096, 0.0016384, 0.00065536]
    policy, draws = EpsilonGreedy(0.4, spread=7), 3_000

    class Prefers:
        num_actions = 1_000_000

        def preferences(self, observation):
            return np.eye(1, 10, dtype=np.float32).repeat(len(observation), axis=0)

    agent = Prefers()
    explored = []
    for first in (0, 4):  # two players
        part = policy.of_envs(first, 4, 8)
        generators = [exploration_generator(1, first + env) for env in range(4)]
        acted = np.array([part.act(agent, np.zeros(4), 0, generators) for _ in range(draws)])
        explored += list((acted > 0).mean(axis=0))
    assert explored == pytest.approx(expected, abs=0.03)
    assert EpsilonGreedy(0.4).of_envs(0, 4, 8).epsilon(0) == 0.4
    assert policy.of_envs(0, 1, 1)._exponent == [1.0]


@pytest.mark.parametrize("place", [ThreadPlace(2, 4), ThreadPlace(2, 1)], ids=["4 envs", "1 env"])
def test_each_env_explores_alike_whatever_the_players(place):
    policy = EpsilonGreedy(0.5, spread=3)
    here, there = (play(collector_of(STROLL, at, policy=policy), Learning(STROLL), 5) for at in (None, place))
    assert_same(here, there)
    with pytest.raises(AssertionError):
        assert_same(here, play(collector_of(STROLL, policy=EpsilonGreedy(0.5)), Learning(STROLL), 5))


def test_what_each_env_does_by_its_own_epsilon_has_no_one_probability():
    with pytest.raises(ConfigError, match="EpsilonGreedy does not say its probabilities"):
        EpsilonGreedy(0.4, spread=7).probabilities(Learning(STROLL), np.zeros((1, 2, 4), np.float32), 0)
    with pytest.raises(ConfigError, match="spread: -1 of EpsilonGreedy must be at least 0"):
        EpsilonGreedy(0.4, spread=-1)


def test_a_policy_of_somebody_acts_alike_in_all_envs():
    assert Greedy().of_envs(0, 1, 8).__class__ is Greedy
    assert Player(make_vec(STROLL, 2), 1, SEED).all_envs == 2


# --- whole runs ---


def fitted(folder, updates, place=None, resume=None, journal=None, capacity=200):
    """What a run has left in a folder, whose players play on; and the counts of its players."""
    data = make_data(
        num_envs=8,
        env_steps_per_update=4,
        gradient_steps=2,
        capacity=capacity,
        sampler=Prioritized(),
        place=place or FreePlace(2, 2, max_staleness=4),
    )
    data.replay_journal = journal
    logger = TensorBoardLogger(folder, name="", version="run")
    trainer = make_trainer(max_epochs=-1, max_steps=updates, logger=logger, plugins=[ReplayCheckpointIO()])
    trainer.fit(make_agent(), datamodule=data, ckpt_path=resume)
    last = folder / "run/checkpoints/last.ckpt"
    trainer.save_checkpoint(last, weights_only=False)
    logger.experiment.close()
    read = Checkpoint.read(last).verify(training=False)
    stored = [{name: tuple(content) for name, content in of.contents.items()} for of in read.segments()]
    data_state = read.contents["ReplayDataModule"]
    for name in ("identity", "folder", "manifest_crc32"):
        del data_state["replay"][name]
    episodes = [line.rpartition(",")[0] for line in (folder / "run/episodes.csv").read_text().splitlines()]
    kept = {kind: _plain(read.contents[kind]) for kind in ("state_dict", "optimizer_states", "random", "loops")}
    return {**kept, "data": _plain(data_state), "stored": stored, "episodes": episodes}


def _plain(part):
    if isinstance(part, torch.Tensor):
        return part.tolist()
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items()}
    return [_plain(value) for value in part] if isinstance(part, list | tuple) else part


def different(one, other):
    return {kind for kind in one if one[kind] != other[kind]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, what is left) of a run that was stopped and resumed, and had written arrivals after its checkpoint."""
    folder = tmp_path_factory.mktemp("asynchronous")
    fitted(folder, 30)
    journal = folder / "run/journal.csv"
    arrivals = read_journal(journal)
    last = arrivals[-1]
    with journal.open("a") as file:  # as if it had played on before it was killed
        file.write(lines_of([last._replace(number=last.number + 1, training_step=last.training_step + 1)]) + "7,")
    left = fitted(folder, 60, resume=folder / "run/checkpoints/last.ckpt")
    assert read_journal(journal)[: len(arrivals)] == arrivals
    assert len(read_journal(journal)) > len(arrivals)
    return folder, left


def test_the_journal_of_a_run_that_was_resumed_makes_it_again(whole, tmp_path):
    folder, left = whole
    journal = folder / "run/journal.csv"
    again = fitted(tmp_path, 60, FreePlace(1, 2, max_staleness=4), journal=journal)
    assert different(left, again) == set()
    assert (tmp_path / "run/journal.csv").read_text() == journal.read_text()


def test_a_line_of_the_journal_that_was_changed_comes_out_different(whole, tmp_path):
    folder, left = whole
    journal = tmp_path / "changed.csv"
    journal.write_text(f"{HEADER}\n{lines_of(swapped(read_journal(folder / 'run/journal.csv')))}")
    again = fitted(tmp_path, 60, journal=journal)
    assert {"state_dict", "optimizer_states", "stored"} <= different(left, again)


def test_a_journal_is_written_before_the_checkpoint_that_counts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_writer, "WRITE_SECONDS", 10**6)
    left = fitted(tmp_path, 20)
    assert len(read_journal(tmp_path / "run/journal.csv")) == left["data"]["asynchronous"]["arrivals"]

    def full(path, text):
        raise OSError("no space is left")

    monkeypatch.setattr(journal_writer.durable, "append_text", full)
    with pytest.raises(OSError, match="no space is left"):
        fitted(tmp_path / "full", 20)
    assert not (tmp_path / "full/run/checkpoints/last.ckpt").exists()


def test_a_run_that_resumes_elsewhere_takes_its_journal_along(whole, tmp_path):
    folder, _ = whole
    before = read_journal(folder / "run/journal.csv")
    fitted(tmp_path, 80, resume=folder / "run/checkpoints/last.ckpt")
    after = read_journal(tmp_path / "run/journal.csv")
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_a_journal_that_is_lost_is_told_and_does_not_end_the_run(whole, tmp_path, caplog):
    folder, _ = whole
    copy = tmp_path / "kept/run"
    shutil.copytree(folder / "run", copy)
    (copy / "journal.csv").unlink()
    fitted(tmp_path, 80, resume=copy / "checkpoints/last.ckpt")
    assert "has 0 of the" in caplog.text
    with pytest.raises(ConfigError, match="some are missing"):
        read_journal(tmp_path / "run/journal.csv")


def test_what_is_whole_of_a_damaged_journal_is_kept(whole, tmp_path, caplog):
    folder, _ = whole
    copy = tmp_path / "kept/run"
    shutil.copytree(folder / "run", copy)
    journal = copy / "journal.csv"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:11], b"\xff\x00" * 10**6, *lines[11:]]))
    fitted(tmp_path / "kept", 64, resume=copy / "checkpoints/last.ckpt")
    assert "has 10 of the" in caplog.text
    assert journal.read_bytes().splitlines(keepends=True)[:11] == lines[:11]


def test_what_a_journal_cannot_go_on_from_is_refused(whole, tmp_path):
    folder, _ = whole
    checkpoint = folder / "run/checkpoints/last.ckpt"
    with pytest.raises(ConfigError, match="the players of the checkpoint's journal have 2 envs, not 4; set --data"):
        fitted(tmp_path, 64, FreePlace(1, 4), resume=checkpoint)
    fitted(tmp_path / "in_turn", 64, ThreadPlace(1, 4), resume=checkpoint)
    with pytest.raises(ConfigError, match="place: the checkpoint is of a run without asynchronous play"):
        fitted(tmp_path, 70, resume=tmp_path / "in_turn/run/checkpoints/last.ckpt")


def fit(monkeypatch, folder, *words):
    """The exit code of a command line in a folder, and the folder of the run that it has made."""
    monkeypatch.chdir(folder)
    free = {"actors": 2, "envs_per_player": 2, "max_staleness": 4}
    place = ["--data.place=stand_in.FreePlace", *(f"--data.place.init_args.{key}={free[key]}" for key in free)]
    code = run(monkeypatch, "fit", "--config=cartpole", *place, *tiny(**{"data.gradient_steps": 2}), *words)
    found = sorted(folder.glob("lightning_logs/*/*"))
    return code, found[-1] if found else None


def test_what_cannot_be_is_refused_before_there_is_a_folder(tmp_path, monkeypatch, capsys):
    code, made = fit(monkeypatch, tmp_path, "--replay_journal=nowhere.csv")
    assert (code, made) == (2, None)
    assert "replay_journal: nowhere.csv cannot be read (No such file or directory)" in capsys.readouterr().err
    (tmp_path / "journal.csv").write_text(f"{HEADER}\n0,1,4,4,1,1,0\n")
    assert fit(monkeypatch, tmp_path, "--replay_journal=journal.csv") == (2, None)
    assert "it tells of env 4 in a player with 4, and this run has" in capsys.readouterr().err


@pytest.mark.slow
def test_a_command_line_makes_a_run_again_and_does_not_resume_that(tmp_path, monkeypatch, capsys):
    (tmp_path / "again").mkdir()
    code, made = fit(monkeypatch, tmp_path)
    assert code == 0
    journal = f"--replay_journal={made / 'journal.csv'}"
    code, again = fit(monkeypatch, tmp_path / "again", journal, "--data.place.init_args.actors=1")
    assert code == 0
    assert (again / "journal.csv").read_text() == (made / "journal.csv").read_text()
    weights = [verify_checkpoint(of / "checkpoints/last.ckpt")["state_dict"] for of in (made, again)]
    assert same(*weights)
    assert "replay_journal" not in (again / "config.yaml").read_text()
    assert fit(monkeypatch, tmp_path, journal, "--ckpt_path=last")[0] == 2
    assert "repeats a run from its beginning, and ckpt_path resumes one in its middle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"play_ahead": True}, "play_ahead: true, but asynchronous players never wait"),
        ({"shards": 2}, "place: FreePlace plays for one shard"),
    ],
)
def test_what_does_not_go_with_it_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_data(num_envs=8, env_steps_per_update=24, place=FreePlace(2, 4), **settings)


def test_rays_actors_say_how_they_play():
    place = RayActors(4, 2, asynchronous=True, slack=3, max_staleness=5)
    assert (place.asynchronous, place.slack, place.max_staleness) == (True, 3, 5)
    assert not RayActors().asynchronous
