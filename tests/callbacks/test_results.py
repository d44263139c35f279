import json

import pytest

from helpers import CONFIGS, make_agent, make_data, make_trainer, run, tiny
from lit_dqn.callbacks.results import summarize
from lit_dqn.envs import human_normalised_score
from lit_dqn.types import Episode


def test_the_summary_is_that_of_a_sample():
    episodes = [Episode(i, 0, 0, total, 1, True) for i, total in enumerate([1.0, 2.0, 6.0, 7.0])]
    summary = summarize(episodes)
    assert summary["mean"] == 4
    assert summary["median"] == 4
    assert (summary["min"], summary["max"]) == (1, 7)
    # The variance with n - 1 is 26/3, the standard error its root over 2.
    assert summary["standard_error"] == pytest.approx((26 / 3) ** 0.5 / 2)
    assert summarize(episodes[:1])["standard_error"] is None


def test_scores_lie_between_a_random_player_and_a_human():
    assert human_normalised_score("ALE/Pong-v5", -20.7) == 0
    assert human_normalised_score("ALE/Breakout-v5", 30.5) == 1
    assert human_normalised_score("ALE/Breakout-v5", 401.2) == pytest.approx(13.87, abs=0.01)
    assert human_normalised_score("CartPole-v1", 500) is None
    assert human_normalised_score("ALE/Adventure-v5", 1) is None


def test_a_test_leaves_its_results_beside_the_protocol(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / 'atari/pong_fast.yaml'}"
    assert run(monkeypatch, "fit", config, *tiny()) == 0
    file = tmp_path / "lightning_logs/pong_fast/version_0/results.json"
    assert not file.exists()  # evaluations of training are no results
    for episodes in (2, 3):
        changes = tiny(**{"data.eval_episodes": episodes, "data.eval_max_steps": 50})
        assert run(monkeypatch, "test", config, "--ckpt_path=last", *changes) == 0
    assert "human-normalised" in capsys.readouterr().err
    first, second = json.loads(file.read_text())
    assert (len(first["episodes"]), len(second["episodes"])) == (2, 3)
    assert second["env_id"] == "ALE/Pong-v5"
    assert second["checkpoint"] == f"env_step_{second['env_step']}.ckpt"
    assert second["env_step"] == 104  # 40 of warm-up, then chunks of 32
    assert second["protocol"]["repeat_action_probability"] == 0.25
    assert second["protocol"]["policy"] == "EpsilonGreedy"
    assert second["protocol"]["exploration_rate"] == 0.001
    assert second["protocol"]["max_steps"] == 50
    assert all(episode["length"] == 50 for episode in second["episodes"])
    assert second["return"]["mean"] == sum(e["return"] for e in second["episodes"]) / 3


def test_other_episodes_are_tested_than_the_best_checkpoint_was_chosen_by():
    data = make_data(eval_episodes=3)
    data.trainer = make_trainer()
    data.trainer.strategy.connect(make_agent())
    validation, test = data.val_dataloader().seeds, data.test_dataloader().seeds
    assert not set(validation) & set(test)
    assert data.predict_dataloader().seeds == test
    data.teardown("test")
