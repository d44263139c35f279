"""The notebooks: their two forms say the same, they use what is public, and they run."""

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ["lesson15", "your_own_env"]


def read(path: Path) -> nbformat.NotebookNode:
    return jupytext.read(path)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_and_its_text_say_the_same(name):
    notebook, text = (read(ROOT / "notebooks" / f"{name}.{ending}") for ending in ("ipynb", "py"))
    cells = [[(cell.cell_type, cell.source) for cell in form.cells] for form in (notebook, text)]
    assert cells[0] == cells[1], "run: jupytext --to ipynb --update notebooks/*.py"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_uses_public_names_only(name):
    tree = ast.parse((ROOT / "notebooks" / f"{name}.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    own = {"_fields", "_observation"}  # of a NamedTuple, which are public; of the notebook's own env
    assert not [name for name in used - own if name.startswith("_")]


def test_the_lesson_has_five_exercises_whose_solutions_are_folded_away_and_are_python():
    (exercises,) = [cell.source for cell in read(ROOT / "notebooks/lesson15.py").cells if "## Exercises" in cell.source]
    assert re.findall(r"^\*\*(\d)\. ", exercises, re.MULTILINE) == list("12345")
    solutions = re.findall(r"<details><summary>Solution</summary>\n\n(.*?)\n\n</details>", exercises, re.DOTALL)
    assert len(solutions) == 5
    for code in re.findall(r"```python\n(.*?)```", "".join(solutions), re.DOTALL):
        ast.parse(code)


def test_the_stored_lesson_ran_to_its_end_and_nothing_in_it_failed():
    cells = [cell for cell in read(ROOT / "notebooks/lesson15.ipynb").cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    silent = [cell.source.splitlines()[0] for cell in cells if not cell.outputs]
    # Settings, imports, and what is only defined.
    assert silent == ["QUICK = True", "%matplotlib inline", "from lit_dqn.learning.networks import build_network"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_runs_from_top_to_bottom(tmp_path, name):
    for folder in ("configs", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "notebooks").mkdir()
    notebook = read(ROOT / "notebooks" / f"{name}.py")
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    warnings = [output.text for output in outputs if output.get("name") == "stderr"]
    assert len(pictures) >= (15 if name == "lesson15" else 2)
    assert not [warning for warning in warnings if "Warning" in warning or "Error" in warning]
    assert list((tmp_path / "lightning_logs").rglob("last.ckpt"))
