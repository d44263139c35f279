"""Two hundred wrong command lines and files, made by a small generator, each in a process of its own."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from lit_dqn.commands.inputs import SECTIONS, Hint, Sources, first_look
from lit_dqn.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
CARTPOLE = (CONFIGS / "cartpole.yaml").read_text()
BASE = ["fit", "--config", "cartpole.yaml"]
NUMBER = 200
MOST_LINES = 3


def wrong_values(hint: Hint) -> list[str]:
    """Values that an argument cannot take."""
    if hint.anything or "str" in hint.scalars or "mapping" in hint.scalars:
        return []
    if hint.kinds:
        return ["{a: 1}", "wrong value"]
    return ["wrong", "{a: 1}"] if hint.items else ["wrong", "[1, [2]]", "{a: 1}"]


def misspelt(name: str, random: Random) -> str:
    place = random.randrange(len(name))
    return random.choice([name[:place] + "q" + name[place:], name[:place] + name[place + 1 :] or "q"])


def wrong_keys(random: Random) -> Iterator[list[str]]:
    """Each key of each section: misspelt, of a wrong type, a wrong number."""
    sources = Sources()
    for section in SECTIONS:
        owner = sources.section(section)
        assert owner is not None
        for name, argument in owner.arguments.items():
            if not owner.takes_more:
                key = misspelt(name, random)
                if key not in owner.arguments:
                    yield [f"--{section}.{key}", "1"]
            for value in wrong_values(argument.hint):
                yield [f"--{section}.{name}", value]
            if argument.hint.scalars & {"int", "float"} and "bool" not in argument.hint.scalars:
                yield [f"--{section}.{name}", random.choice(["1e40", ".nan", "true"])]


def wrong_files(random: Random) -> Iterator[bytes]:
    """The file cut, scrambled, empty, of another kind."""
    text = CARTPOLE.encode()
    for _ in range(30):
        place = random.randrange(len(text))
        yield (
            text[:place] + random.choice([b"\xff\xfe", b"\x00", b"\t:", b"}", b"\n- 1\n", b": :", b"@"]) + text[place:]
        )
    for place in (1, 40, 200, 300, 400, 700):
        yield text[:place]
    yield from (b"", b"\n\n", b"[]", b"5", b"text", b"null", b"\x89PNG\r\n\x1a\n", "µ".encode("utf-16"), b"a: b: c")
    yield text + text


def wrong_inputs() -> list[tuple[list[str], bytes | None]]:
    """The inputs that the first look refuses, and a given number of those that it leaves to later checks."""
    random = Random(0)
    inputs: list[tuple[list[str], bytes | None]] = [([*BASE, *words], None) for words in wrong_keys(random)]
    inputs += [(["fit", "--config", "bad.yaml"], content) for content in wrong_files(random)]
    random.shuffle(inputs)
    return inputs


def refused(words: list[str]) -> str | None:
    try:
        first_look(words)
    except ConfigError as error:
        return str(error)
    return None


def test_the_first_look_at_all_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cartpole.yaml").write_text(CARTPOLE)
    sentences, passed = [], []
    for words, content in wrong_inputs():
        if content is not None:
            (tmp_path / "bad.yaml").write_bytes(content)
        sentence = refused(words)
        (passed if sentence is None else sentences).append((words, content, sentence))
    assert len(sentences) >= NUMBER
    for words, _, sentence in sentences:
        assert len(sentence) < 500, sentence
        assert "\n" not in sentence, sentence
        key = words[3].removeprefix("--") if len(words) > 3 else "config"
        assert key.split(".")[-1] in sentence or key == "config", (words, sentence)
    # A cut or scrambled file may still be a config; a key of a wrong type is none.
    assert not [words for words, content, _ in passed if content is None and words[-1] in ("wrong", "[1, [2]]")]
    assert len(passed) < len(sentences) / 5


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_each_in_a_separate_process(tmp_path, part):
    inputs = [one for one in wrong_inputs() if one[1] is None or refused_content(one[1], tmp_path)]
    chosen = inputs[:NUMBER][part::8]
    assert len(chosen) == math.ceil((NUMBER - part) / 8)
    for number, (words, content) in enumerate(chosen):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "cartpole.yaml").write_text(CARTPOLE)
        if content is not None:
            (folder / "bad.yaml").write_bytes(content)
        before = sorted(folder.iterdir())
        done = subprocess.run(
            [sys.executable, "-m", "lit_dqn", *words], cwd=folder, capture_output=True, text=True, timeout=300
        )
        said = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, ""), (words, content, done)
        assert said[-1].startswith("error: "), (words, content, said)
        assert len(said) <= MOST_LINES, (words, content, said)
        assert "Traceback" not in done.stderr, (words, content, said)
        assert sorted(folder.iterdir()) == before, (words, content)


def refused_content(content: bytes, folder: Path) -> bool:
    """Whether a scrambled file is not a config any more."""
    (folder / "bad.yaml").write_bytes(content)
    return refused(["fit", "--config", str(folder / "bad.yaml")]) is not None
