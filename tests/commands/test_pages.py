"""Errors name the page of the docs that knows more, where that helps."""

import tomllib
from pathlib import Path

import pytest

from lit_dqn.commands.inputs import OTHERS, SECTIONS, Sources, say_error
from lit_dqn.commands.inputs.pages import DOCS, PAGES, page_of
from lit_dqn.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("sentence", "page"),
    [
        ("ckpt_path: there is no checkpoint nowhere; give a .ckpt file.", "guide/resume.md"),
        ("data.env_id: no environment is given; take a config.", "guide/environments.md"),
        ("action_mask: true is not for ALE/Pong-v5: a game forbids nothing.", "guide/masks.md"),
        ("model.network.head: there is no head X; give one of A, B.", "guide/parts.md"),
        ("Double on CartPole-v1: shards: 3 is not a power of two.", "guide/scaling.md"),
        ("seeds: 5 is not a list of seeds; give one.", "studies.md"),
        ("trainer.logger.init_args.save_dir: $X names X, which is not set.", "guide/watching.md"),
        ("data.env_id: there is no such environment; did you mean CartPole-v1?", None),
        ("n_step: 0 must be at least 1.", None),
        ("batch_size: 4 do not fit; set --data.env_id: no.", None),
        ("the agent: it learns from a replay of env_id: 3", None),
        ("the loss became nan at update 20", None),
    ],
)
def test_a_sentence_has_the_page_of_its_key_or_none(sentence, page):
    assert page_of(sentence) == page


def test_every_page_is_there_comes_with_the_wheel_and_is_about_keys_that_are_there():
    sources = Sources()
    of_sections = {name for section in SECTIONS for name in sources.section(section).arguments}
    of_studies = {"study", "report", "agents", "tasks", "overrides", "seeds", "scales", "at_once", "test_episodes"}
    of_searches = {"tune", "space", "configs", "trials", "target", "prune", "storage"}
    known = (
        {"push", "pull"}
        | of_sections
        | of_studies
        | of_searches
        | {*OTHERS, *SECTIONS, "config", "extends", "head", "init_from"}
    )
    with (ROOT / "pyproject.toml").open("rb") as file:
        shipped = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for page, keys in PAGES.items():
        assert (ROOT / "docs" / page).is_file(), page
        assert {f"docs/{page}", f"docs/{page.rpartition('/')[0]}"} & shipped.keys(), page
        assert set(keys) <= known, page
    assert all(target == f"lit_dqn/{source}" and (ROOT / source).exists() for source, target in shipped.items())


def test_the_page_is_named_as_it_can_be_opened_from_here(folder, monkeypatch, capsys):
    say_error(ConfigError("seeds: 5 is not a list\nof seeds."))
    said = capsys.readouterr().err
    assert said == f"error: seeds: 5 is not a list of seeds. See {DOCS / 'studies.md'}\n"
    monkeypatch.chdir(ROOT)
    say_error(ConfigError("seeds: 5 is not a list."))
    assert capsys.readouterr().err == f"error: seeds: 5 is not a list. See {Path('docs/studies.md')}\n"
    say_error(ConfigError("n_step: 0 must be at least 1."))
    assert capsys.readouterr().err == "error: n_step: 0 must be at least 1.\n"
