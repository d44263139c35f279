import os
import re
import signal

import pytest

from helpers import CONFIGS, make_data, make_trainer, run
from lit_dqn import EpsilonGreedy, Play, RayActors
from lit_dqn.callbacks import StoppingRules
from lit_dqn.commands.plan import _env_steps, _folded
from lit_dqn.commands.plan_place import StepCost, describe_place, describe_time, measure_steps

CARTPOLE = f"--config={CONFIGS / 'cartpole.yaml'}"


def plan(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("lit_dqn.commands.plan.WARM_UP_SECONDS", 0.1)
    monkeypatch.setattr("lit_dqn.commands.plan.TRIAL_SECONDS", 0.3)
    code = run(monkeypatch, "fit", "--plan", *arguments)
    return code, *capsys.readouterr()


def test_the_plan_gives_sizes_and_speed_and_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = plan(monkeypatch, capsys, CARTPOLE, "--data.capacity=1000000", "--stop.max_env_steps=1000000")
    assert code == 0
    # 4 floats of observation and 38 bytes beside them, for each timestep and for the last ones of episodes.
    (gigabytes,) = re.findall(r"replay +1,000,000 timesteps, ([\d.]+) GB when full", out)
    assert float(gigabytes) == 0.06
    assert "network     MLP, 10,934 weights" in out
    assert "updates     249,750 of 128 transitions, for 1,000,000 env steps" in out
    (speed,) = re.findall(r"trial +[\d.]+ s: ([\d,]+) env steps/s", out)
    (hours, minutes) = re.findall(r"the run +(\d+) h (\d\d) min", out)[0]
    expected = 1_000_000 / float(speed.replace(",", "")) / 60
    assert abs(int(hours) * 60 + int(minutes) - expected) < 0.05 * expected + 1
    assert list(tmp_path.iterdir()) == []


def test_the_trial_is_played_as_the_end_of_the_run_will_be(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rates = set()

    def act(policy, agent, observation, env_step, generators):
        rates.add(policy.epsilon(env_step))
        return epsilon_greedy(policy, agent, observation, env_step, generators)

    epsilon_greedy = EpsilonGreedy.act
    monkeypatch.setattr(EpsilonGreedy, "act", act)
    assert plan(monkeypatch, capsys, CARTPOLE, "--data.policy.init_args.epsilon.end=0.125")[0] == 0
    assert rates == {0.125}


def test_a_plan_of_what_cannot_fit_names_what_would(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = plan(monkeypatch, capsys, CARTPOLE, "--data.capacity=1000000000000")
    assert code == 2
    assert out == ""
    assert re.search(
        r"error: capacity: a replay of 1,000,000,000,000 timesteps takes .* set --data.capacity \d+ or less", err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_by_episodes_says_that_its_time_is_not_known(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = plan(monkeypatch, capsys, CARTPOLE, "--stop.max_env_steps=null", "--stop.max_episodes=50")
    assert code == 0
    assert "the run     ends after 50 episodes; how many env steps that takes is not known" in out


@pytest.mark.slow
def test_a_run_that_learns_offline_is_planned_by_its_updates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    play = '[{"class_path": "lit_dqn.Play", "init_args": {"env_steps": 12000}}]'
    offline = (f"--data.prefill={play}", "--data.env_steps_per_update=0", "--stop.max_env_steps=3000")
    code, out, _ = plan(monkeypatch, capsys, CARTPOLE, *offline)
    assert code == 0
    assert "prefill     12,000 timesteps of demonstrations" in out
    assert "updates     3,000 of 128 transitions\n" in out
    assert re.search(r"trial +[\d.]+ s: [\d,]+ updates/s\n", out)
    assert "env steps" not in out.split("updates  ")[1]


def test_the_nearest_limit_counts():
    data = make_data(min_replay_size=100, env_steps_per_update=4)  # and ten updates an epoch
    stop = StoppingRules(max_env_steps=1000)
    for limits, expected in (
        ({"max_epochs": -1}, 1000),
        ({"max_epochs": 3}, 100 + 30 * 4),
        ({"max_epochs": 3, "max_steps": 5000}, 100 + 30 * 4),
        ({"max_epochs": 3, "max_steps": 8}, 100 + 8 * 4),
    ):
        assert _env_steps(make_trainer(**limits), data, stop) == expected
    assert _env_steps(make_trainer(max_epochs=3), data, stop, prefilled=70) == 30 + 30 * 4
    offline = make_data(prefill=[Play(60)], env_steps_per_update=0)
    assert _env_steps(make_trainer(max_epochs=3), offline, stop, prefilled=60) == 30
    assert _env_steps(make_trainer(max_epochs=-1), data, StoppingRules(max_episodes=5)) is None


def test_a_run_that_is_shorter_than_the_trial_does_not_cut_it_short(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    limits = "--stop.max_env_steps=1032", "--trainer.max_steps=8", "--trainer.max_epochs=1"
    code, out, _ = plan(monkeypatch, capsys, CARTPOLE, "--data.updates_per_epoch=8", *limits)
    assert code == 0
    assert "for 1,032 env steps" in out
    assert "the run     0 h 00 min" in out


@pytest.mark.parametrize("config", ["maze_td.yaml", "cartpole_actor_critic.yaml"])
def test_every_kind_of_agent_can_be_planned(tmp_path, monkeypatch, capsys, config):
    monkeypatch.chdir(tmp_path)
    code, out, err = plan(monkeypatch, capsys, f"--config={CONFIGS / config}")
    assert code == 0, err
    assert re.search(r"the run +\d+ h \d\d min", out)


@pytest.mark.slow
def test_a_run_that_ends_by_time_is_planned_by_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = plan(monkeypatch, capsys, CARTPOLE, "--stop.max_env_steps=null", "--trainer.max_time=00:01:00:00")
    assert code == 0, err
    (speed,) = re.findall(r"trial +[\d.]+ s: ([\d,]+) env steps/s", out)
    (steps,) = re.findall(r"ends by max_time after some ([\d,]+) env steps", out)
    assert int(steps.replace(",", "")) == pytest.approx(
        3600 * int(speed.replace(",", "")),
        abs=3600 * 0.6,  # the speed is rounded
    )
    code, out, _ = plan(monkeypatch, capsys, CARTPOLE, "--trainer.max_time=00:00:00:00")  # it does not end the trial
    assert code == 0
    assert "ends by max_time after some 0 env steps" in out
    until = ["--stop.max_env_steps=null", "--stop.max_episodes=50", "--trainer.max_time=00:01:00:00"]
    assert "less what evaluations take, or after 50 episodes" in plan(monkeypatch, capsys, CARTPOLE, *until)[1]
    code, out, _ = plan(monkeypatch, capsys, CARTPOLE, "--trainer.max_time=00:99:00:00")
    assert re.search(r"the run +\d h \d\d min, without", out)  # 100,000 env steps are sooner


def test_ctrl_c_ends_a_plan_without_a_word_of_saving(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def press_ctrl_c(self, trainer, *args):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("lit_dqn.commands.plan._Trial.on_train_batch_end", press_ctrl_c)
    assert run(monkeypatch, "fit", "--plan", CARTPOLE) == 130
    assert "SIGINT: the run ends after this chunk; Ctrl-C again" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", [80, 120])
def test_a_long_line_is_folded_at_the_width_of_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    words = [f"word{number}" for number in range(60)]
    first, *rest = _folded("protocol", " ".join(words)).splitlines()
    assert first.startswith("protocol    word0")
    assert all(line.startswith(" " * 12 + "word") for line in rest)
    assert columns - 8 < len(first) <= columns
    assert " ".join([first, *rest]).split()[1:] == words


def in_ray(actors, envs_per_player):
    return make_data(num_envs=8, env_steps_per_update=8, place=RayActors(actors, envs_per_player))


def test_the_plan_of_a_place_says_what_more_actors_bring_and_what_serves_better_here():
    waits, computes = StepCost(0.005, 0.0002), StepCost(0.005, 0.005)
    said = describe_place(in_ray(2, 2), waits, cores=2)
    assert "a step of one env takes 5.00 ms, of which it computes 0.20 ms; 2 actors, each of which steps" in said
    assert "play at most 400 env steps/s, and 4, one for each player, 800; on this machine --data.place null" in said
    assert "--data.env_processes true plays up to 1,600, for each env has a process" in said
    # What computes has no use for more processes than cores.
    assert "env_processes" not in describe_place(in_ray(2, 2), computes, cores=2)
    assert "plays up to 800" in describe_place(in_ray(2, 2), computes, cores=4)
    assert "400 env steps/s; envs_per_player 1 and 8 actors 1,600" in describe_place(in_ray(2, 4), waits, cores=2)


def test_the_plan_of_a_place_says_where_the_time_of_an_env_step_went():
    said = describe_time(in_ray(2, 4), StepCost(0.005, 0.0), env_steps_per_second=200)
    assert "an env step took 5.00 ms, of which the envs 2.50 ms (50%); the rest acted, sent, stored and learned" in said


@pytest.mark.slow
def test_the_plan_of_a_place_measures_a_step_and_the_trial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lit_dqn.commands.plan_place.MEASURED_SECONDS", 0.05)
    assert 0 < measure_steps(in_ray(2, 4)).cpu < 0.01
    place = ["--data.place=stand_in.ThreadPlace", "--data.place.actors=2", "--data.place.envs_per_player=4"]
    code, out, err = plan(monkeypatch, capsys, CARTPOLE, *place)
    assert code == 0, err
    assert re.search(r"place +a step of one env takes", out)
    assert "an env step took" in out
