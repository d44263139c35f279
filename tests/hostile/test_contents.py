"""What a checkpoint or its replay may not hold is refused in one sentence, and passed over by `last`."""

import contextlib
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from helpers import CARTPOLE, read_checkpoint, run, tiny, verify_checkpoint
from lit_dqn import ConfigError, load_agent
from lit_dqn.saving.find import find_checkpoint

HERE = Path(__file__).parent
CONTENTS = yaml.safe_load((HERE / "contents.yaml").read_text())
MANIFEST = yaml.safe_load((HERE / "manifest.yaml").read_text())


def name_of(case: dict) -> str:
    return f"{case['at']}={str(case['value'])[:30]}"


def is_refused(checkpoint: Path) -> str:
    with pytest.raises(ConfigError) as error:
        verify_checkpoint(checkpoint)
    assert "\n" not in str(error.value)
    # It is the only one: passed over, or, where its replay alone is bad, taken without.
    with contextlib.suppress(ConfigError):
        assert not find_checkpoint("last", checkpoint.parent.parent.parent, replay=True).replay_is_whole
    return str(error.value)


def test_the_checkpoint_itself_is_let_through(checkpoint):
    verify_checkpoint(checkpoint)


@pytest.mark.parametrize("case", CONTENTS, ids=name_of)
def test_bad_contents_are_refused(checkpoint, change, case):
    change(case["at"], case["value"])
    is_refused(checkpoint)


REQUIRED = yaml.safe_load((HERE / "required.yaml").read_text())


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(checkpoint, change, key):
    change(key, ...)
    said = is_refused(checkpoint)
    assert key.split("/")[-1] in said or "not a checkpoint of lit_dqn" in said


@pytest.mark.parametrize("name", ["StoppingRules", "TrainingStatistics"])
def test_a_run_is_not_resumed_without_what_its_callbacks_know(folder, change, monkeypatch, capsys, name):
    change(f"callbacks/{name}", ...)
    resume = [*CARTPOLE, *tiny(), "--model.network.hidden_sizes=[8]", "--ckpt_path=run/checkpoints/last.ckpt"]
    assert run(monkeypatch, "fit", *resume) == 2
    assert f"error: ckpt_path: run/checkpoints/last.ckpt holds no state of {name}" in capsys.readouterr().err
    assert not (folder / "lightning_logs").exists()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("state_dict/online.1.weight", torch.full((8, 4), torch.nan)),
        ("state_dict/online.1.weight", torch.zeros(()).expand(100_000, 100_000)),
        ("state_dict/online.1.weight", torch.eye(3).to_sparse()),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(8, 5)),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(2**20)),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(())),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(4, 8).T),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(8, 4, dtype=torch.float64)),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(8, 4, dtype=torch.int64)),
        ("optimizer_states/0/state/0/exp_avg", torch.full((8, 4), torch.inf)),
        ("optimizer_states/0/state/0/step", torch.zeros(8, 4)),
        ("optimizer_states/0/state/0/step", torch.tensor(torch.nan)),
        ("random/torch", torch.zeros(3)),
        ("ReplayDataModule/replay/arrays/head", torch.zeros(8, dtype=torch.int64)),
        ("ReplayDataModule/replay/arrays/head", torch.full((8,), -1)),
        ("ReplayDataModule/replay/arrays/head", torch.zeros(2, dtype=torch.int64)),
        ("ReplayDataModule/collector/running/0/actions", torch.full((5,), 200, dtype=torch.uint8)),
        ("ReplayDataModule/collector/running/0/actions", torch.full((5,), -1, dtype=torch.int32)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{tuple(value.shape)}",
)
def test_bad_tensors_are_refused(checkpoint, change, at, value):
    change(at, value)
    is_refused(checkpoint)


def test_values_that_grow_when_they_are_used_are_refused(checkpoint, change):
    ring: list = []
    ring.append(ring)
    laughs: list = [0]
    for _ in range(30):
        laughs = [laughs] * 10
    for value in (ring, laughs):
        change("callbacks/Mine", value)
        assert "more values, or deeper ones" in is_refused(checkpoint)


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\nbytearray\n(I1000000000000\ntR.",
        b"ctorch._utils\n_rebuild_sparse_tensor\n.",
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch pwned\x85R.",
        pickle.dumps(np.zeros(3)),
    ],
)
def test_a_pickle_that_names_anything_else_is_not_read(checkpoint, content, folder):
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("last/data.pkl", content)
        archive.writestr("last/version", b"3\n")
    assert "holds more than tensors and plain values" in is_refused(checkpoint)
    assert not (folder / "pwned").exists()


def test_a_file_that_grows_when_it_is_read_is_refused(checkpoint):
    with zipfile.ZipFile(checkpoint) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "compressed" in is_refused(checkpoint)
    # Two entries of one and the same bytes.
    with zipfile.ZipFile(checkpoint, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        first = archive.infolist()[0]
        for number in range(2000):
            again = zipfile.ZipInfo(f"again_{number}")
            for key in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(again, key, getattr(first, key))
            archive.filelist.append(again)
    assert "larger than the file" in is_refused(checkpoint)


def parts_of(checkpoint: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(checkpoint) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def with_a_bytearray(parts: dict[str, bytes]) -> dict[str, bytes]:
    """As torch would read them, but not lit_dqn."""
    more = b"X\x04\x00\x00\x00grewcbuiltins\nbytearray\nK\x01\x85Rs."
    return {name: part[:-1] + more if name.endswith(".pkl") else part for name, part in parts.items()}


def test_a_pickle_is_looked_into_by_whichever_name_torch_finds_it(checkpoint):
    parts = with_a_bytearray(parts_of(checkpoint))
    checkpoint.write_bytes(zipped({name.replace("data.pkl", "DATA.PKL"): part for name, part in parts.items()}))
    assert "holds more than tensors and plain values" in is_refused(checkpoint)


def test_a_pickle_with_a_zip_file_behind_it_is_refused(checkpoint):
    contents, behind = torch.load(checkpoint, weights_only=True), zipped({"x/version": b"3"})
    torch.save(contents, checkpoint, _use_new_zipfile_serialization=False)
    checkpoint.write_bytes(checkpoint.read_bytes() + behind)
    assert "more than one file" in is_refused(checkpoint)


def test_a_zip_file_behind_the_one_that_torch_reads_is_refused(checkpoint):
    """Python takes the list of parts before the end of the file, torch the one that the end points to."""
    checkpoint_alone = checkpoint.read_bytes()
    record, locator, last = checkpoint_alone[-98:-42], checkpoint_alone[-42:-22], checkpoint_alone[-22:]
    assert (record[:4], locator[:4], last[:4]) == (b"PK\6\6", b"PK\6\7", b"PK\5\6")
    behind = zipped({"archive/data.pkl": b"N.", "archive/version": b"3"})
    offset, length = struct.unpack("<16xI", behind[-22:-2])[0], struct.unpack("<12xI", behind[-22:-6])[0]
    own = record[:24] + struct.pack("<QQQQ", 2, 2, length, offset)
    checkpoint.write_bytes(checkpoint_alone + behind[:-22] + own + locator + last)
    assert torch.load(checkpoint, weights_only=True)["env_step"] == 104
    with zipfile.ZipFile(checkpoint) as archive:
        assert archive.namelist() == ["archive/data.pkl", "archive/version"]
    assert "more than one file" in is_refused(checkpoint)


@pytest.mark.parametrize("name", ["items", "get", "copy", "_metadata"])
@pytest.mark.parametrize("at", ["state_dict", "hyper_parameters", "callbacks"])
def test_a_dictionary_whose_methods_are_hidden_is_refused(checkpoint, change, at, name):
    hidden = OrderedDict(torch.load(checkpoint, weights_only=True)[at])
    setattr(hidden, name.replace("items", "itemz"), "a text")
    change(at, hidden)
    parts = parts_of(checkpoint)
    checkpoint.write_bytes(zipped({key: part.replace(b"itemz", b"items") for key, part in parts.items()}))
    assert name in is_refused(checkpoint)


def test_a_text_with_half_a_letter_is_refused(checkpoint, change):
    change("datamodule_hyper_parameters/env_kwargs", {"a": "\ud800"})
    assert "cannot be shown" in is_refused(checkpoint)


def test_an_agent_is_loaded_without_what_it_once_began_from(folder, checkpoint, change):
    change("hyper_parameters/init_from", "nowhere.safetensors")
    load_agent(checkpoint)


# --- the replay ---


def seal(checkpoint: Path, manifest: object) -> None:
    """Write a manifest, and its checksum into the checkpoint."""
    text = json.dumps(manifest).encode()
    contents = torch.load(checkpoint, weights_only=True)
    replay = contents["ReplayDataModule"]["replay"]
    checkpoint.with_name(replay["folder"]).joinpath("manifest.json").write_bytes(text)
    replay["manifest_crc32"] = zlib.crc32(text)
    torch.save(contents, checkpoint)


def read_manifest(checkpoint: Path) -> dict:
    return json.loads((checkpoint.parent / "env_step_104.replay/manifest.json").read_text())


def test_a_manifest_that_was_sealed_again_is_let_through(checkpoint):
    seal(checkpoint, read_manifest(checkpoint))
    verify_checkpoint(checkpoint)


@pytest.mark.parametrize("case", MANIFEST, ids=name_of)
def test_a_bad_manifest_is_refused(checkpoint, case):
    manifest = read_manifest(checkpoint)
    *names, last = [name.replace("%", "/") for name in case["at"].split("/")]
    place = manifest
    for name in names:
        place = place[name]
    place[last] = case["value"]
    seal(checkpoint, manifest)
    is_refused(checkpoint)


@pytest.mark.parametrize("key", ["format", "identity", "heads", "next_start", "rows_per_segment", "arrays", "segments"])
def test_a_manifest_that_misses_a_key_is_refused(checkpoint, key):
    manifest = read_manifest(checkpoint)
    del manifest[key]
    seal(checkpoint, manifest)
    is_refused(checkpoint)


@pytest.mark.parametrize("manifest", [None, [], "text", 3])
def test_a_manifest_that_is_none_is_refused(checkpoint, manifest):
    seal(checkpoint, manifest)
    is_refused(checkpoint)


@pytest.mark.parametrize(
    ("segment", "offset", "number"),
    [
        ("env_0_row_0", 35 * 16, struct.pack("q", 2)),  # an action that the env does not have
        ("env_0_row_0", 35 * 16, struct.pack("q", -1)),
        ("env_0_row_0", 35 * 24, struct.pack("f", float("nan"))),  # a reward
        ("env_0_row_0", 35 * 28, b"\x07"),  # a bool
        ("env_0_row_0", 35 * 30, struct.pack("i", -3)),  # a step
        ("env_0_row_0", 35 * 34, struct.pack("q", 10**12)),  # the number of a start
        ("start_0", 0, struct.pack("i", 8)),  # an env
        ("start_0", 0, struct.pack("i", -1)),
        ("start_0", 400, struct.pack("q", 35)),  # a row
        ("start_0", 400, struct.pack("q", -36)),
    ],
)
def test_numbers_in_a_segment_that_lead_outside_are_refused(checkpoint, segment, offset, number):
    path = checkpoint.parent / "env_step_104.replay" / segment
    content = bytearray(path.read_bytes())
    content[offset : offset + len(number)] = number
    path.write_bytes(content)
    manifest = read_manifest(checkpoint)
    manifest["segments"][segment] = [len(content), zlib.crc32(content)]
    seal(checkpoint, manifest)
    assert "out of range" in is_refused(checkpoint)


def with_priorities(checkpoint: Path, content: bytes, **changes: object) -> None:
    """A rewritten array, such as the fixture does not have, of which the manifest may say what is not so."""
    manifest = read_manifest(checkpoint)
    said = {"name": "priority", "dtype": "float32", "shape": [100], "size": len(content)} | changes
    file = f"rewritten_{said['name']}"
    (checkpoint.parent / "env_step_104.replay" / file.replace("/", "_")).write_bytes(content)
    manifest["rewritten"] = {said["name"]: [said["dtype"], said["shape"]]}
    manifest["segments"][file] = [said["size"], zlib.crc32(content)]
    seal(checkpoint, manifest)


FINITE = struct.pack("100f", *range(100))


def test_a_rewritten_array_is_let_through(checkpoint):
    with_priorities(checkpoint, FINITE)
    verify_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (FINITE[:-4] + struct.pack("f", float("nan")), {}),
        (FINITE[:-4] + struct.pack("f", float("inf")), {}),
        (FINITE[:-4], {}),
        (FINITE[:-4], {"size": 400}),
        (FINITE, {"size": -400}),
        (b"", {"shape": [0]}),
        (b"", {"shape": []}),
        (FINITE, {"shape": [-100]}),
        (FINITE, {"shape": [-10, -10]}),
        (FINITE, {"shape": [100.0]}),
        (FINITE, {"shape": "100"}),
        (FINITE, {"shape": [2**40]}),
        (FINITE, {"shape": [2**40], "size": 2**42}),
        (FINITE, {"dtype": "object", "shape": [50]}),
        (FINITE, {"dtype": "nonsense"}),
        (FINITE, {"dtype": "complex64", "shape": [50]}),
        (FINITE, {"dtype": "datetime64[s]", "shape": [50]}),
        (FINITE, {"dtype": None, "shape": [50]}),
        (FINITE, {"dtype": "bool", "shape": [400]}),
        (FINITE, {"dtype": "V4"}),
        (FINITE, {"name": "observation"}),
        (FINITE, {"name": "head"}),
        (FINITE, {"name": "../priority"}),
        (FINITE, {"name": "/priority"}),
        (FINITE, {"name": "priority\n"}),
        (FINITE, {"name": "p" * 100}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else len(value),
)
def test_a_bad_rewritten_array_is_refused(checkpoint, content, changes):
    with_priorities(checkpoint, content, **changes)
    is_refused(checkpoint)


@pytest.mark.parametrize("rewritten", [None, [], "text", 3, {"priority": None}, {"priority": ["float32"]}])
def test_a_table_of_rewritten_arrays_that_is_none_is_refused(checkpoint, rewritten):
    seal(checkpoint, read_manifest(checkpoint) | {"rewritten": rewritten})
    is_refused(checkpoint)


def test_an_older_checkpoint_is_taken_instead(checkpoint):
    older = checkpoint.with_name("env_step_5.ckpt")
    older.write_bytes(checkpoint.read_bytes())
    contents = torch.load(checkpoint, weights_only=True)
    contents["threads"] = 10**6
    torch.save(contents, checkpoint.with_name("env_step_104.ckpt"))
    checkpoint.unlink()
    assert find_checkpoint("last", checkpoint.parent.parent.parent, replay=True).path == older
    assert read_checkpoint(older)["env_step"] == 104


def test_of_a_checkpoint_whose_replay_alone_is_bad_all_but_that_is_taken_and_of_no_other(checkpoint, change):
    (checkpoint.parent / "env_step_104.replay/start_0").unlink()
    found = find_checkpoint("last", checkpoint.parent.parent.parent, replay=True)
    assert (found.path, found.replay_is_whole) == (checkpoint, False)
    change("loops", ...)
    with pytest.raises(ConfigError):
        find_checkpoint("last", checkpoint.parent.parent.parent, replay=True)
