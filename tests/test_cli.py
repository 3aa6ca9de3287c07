"""Every way out of the real `lmp-dp` command: exit codes, one sentence, and no half file."""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import COLOURS, HOSTILE, MODELS, assert_nothing_steers
from lmp_dp import cli
from lmp_dp.model import ReferenceFrame, load, save
from lmp_dp.model.file import seal
from small_model import small_model

LMP_DP = str(Path(sys.executable).with_name("lmp-dp"))
GRAPH = MODELS / "cu_tiny.pb"


def lmp_dp(
    *arguments: str | Path | bytes, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; never a traceback."""
    done = subprocess.run(
        [LMP_DP, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    assert b"Exception ignored" not in done.stderr, done.stderr
    return done


def sentence(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a command that ended with 2 for a reason of its own."""
    assert done.returncode == 2, done
    (line,) = done.stderr.decode().splitlines()
    assert re.match(r"lmp-dp \w+: error: \S", line)
    assert "LMP_DP_TRACEBACK" not in line  # that is for what was not foreseen
    return line


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The same within this process, where nothing depends on the process."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert re.match(r"lmp-dp \w+: error: \S", line)
    assert "LMP_DP_TRACEBACK" not in line
    return line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.h5"
    save(small_model(), path)
    return path


@pytest.mark.parametrize(
    ("command", "first"), [("doctor", "Is everything there "), ("plugin", "Compile the LAMMPS ")]
)
def test_help_says_in_plain_words_what_a_command_does(
    command: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert f"\n\n{first}" in output
    assert "``" not in output


# ------------------------------------------------------------------------------- standard output


@pytest.mark.parametrize("options", [["info"], ["info", "--json"], ["doctor"], ["--help"]])
def test_output_to_a_full_disk_or_a_closed_pipe(options: list[str], model: Path) -> None:
    arguments = [*options, *([str(model)] if options[0] == "info" else [])]
    closed, pipe = os.pipe()
    os.close(closed)
    full = os.open("/dev/full", os.O_WRONLY)
    for stdout, reason in ((full, b"No space left on device"), (pipe, b"Broken pipe")):
        done = lmp_dp(*arguments, stdout=stdout)
        assert done.returncode == 2
        assert b"error: the output cannot be written: " + reason in done.stderr
        assert done.stderr.count(b"\n") == 1
        os.close(stdout)


def test_errors_that_cannot_be_printed(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([LMP_DP, "info", "missing.h5"], stderr=full, check=False, timeout=60)
    assert done.returncode == 2


def test_ascii_terminal(model: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment in (ascii_only, {"PYTHONIOENCODING": "ascii"}):
        done = lmp_dp("compress", model, "c.h5", "--tolerance", "1e-3", **environment)
        assert done.returncode == 0, done.stderr
        done = lmp_dp("compress", model, "c.h5", "--min-distance", "9", **environment)
        assert "the smallest distance is 9.0 A, expected 0 < d < 4.5" in sentence(done)
        done = lmp_dp("info", model, **environment)
        assert done.returncode == 0, done.stderr
        assert r"\xe4.pb" in done.stdout.decode("ascii")


# ------------------------------------------------------------------------------------- arguments


def test_paths_that_cannot_be(model: Path) -> None:
    long, not_utf8 = "a" * 5000, b"\xff\xfe.h5"
    assert f"model file {long} does not exist" in sentence(lmp_dp("info", long))
    assert f"cannot write {long}: File name too long" in sentence(lmp_dp("compress", model, long))
    assert r"\udcff\udcfe.h5 does not exist" in sentence(lmp_dp("info", not_utf8))
    name = os.fsdecode(not_utf8)
    shutil.copy(model, name)
    done = lmp_dp("info", not_utf8)
    assert done.returncode == 0, done.stderr
    assert rb"\udcff\udcfe.h5" in done.stdout
    done = lmp_dp("compress", not_utf8, b"c" + not_utf8, "--tolerance", "1e-3")
    assert done.returncode == 0, done.stderr
    assert load(f"c{name}").tables


def test_threads_that_are_no_number(model: Path) -> None:
    """A digit to Python's isdigit, but not to int."""
    done = lmp_dp("info", "--verify", verified(model), OMP_NUM_THREADS="²")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("lmp-dp info: error: ")
    assert "²" in line


def verified(path: Path) -> Path:
    """The model with a reference frame of zeros, in place of the file."""
    apart, types, zeros = np.diag([0.0, 1.0, 0.0])[:2], np.array([0, 1]), np.zeros((2, 3))
    frame = ReferenceFrame(apart, np.eye(3) * 9, types, 0.0, zeros, np.eye(3), "hand")
    save(dataclasses.replace(load(path), reference_frame=frame), path)
    return path


def test_what_was_not_foreseen_is_one_line(model: Path, tmp_path: Path) -> None:
    """A broken installation: a module that fails in its own way; the variable shows where."""
    (tmp_path / "broken" / "rich").mkdir(parents=True)
    (tmp_path / "broken" / "rich" / "__init__.py").write_text(
        "raise ZeroDivisionError('so\\nwhat')"
    )
    environment = {"PYTHONPATH": str(tmp_path / "broken")}
    done = lmp_dp("info", model, **environment)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "lmp-dp info: error: ZeroDivisionError: so\\nwhat "
        "(LMP_DP_TRACEBACK=1 in the environment shows where)\n"
    )
    shown = subprocess.run(
        [LMP_DP, "info", str(model)],
        env={**os.environ, **environment, "LMP_DP_TRACEBACK": "1"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert shown.returncode == 2
    assert b"Traceback" in shown.stderr


def test_smallest_distances_that_tables_cannot_hold(model: Path, capsys) -> None:
    for distance in ("0", "-1", "nan", "inf", "4.5", "1e-9", "1e-320"):
        line = refused(capsys, "compress", model, "c.h5", f"--min-distance={distance}")
        assert f"the smallest distance is {float(distance)} Å, " in line
        assert not Path("c.h5").exists()
    found = re.search(r"down to (\S+) Å only: give a larger --min-distance", line)
    assert found  # and what it says can be done is done
    done = lmp_dp("compress", model, "c.h5", f"--min-distance={found.group(1)}")
    assert done.returncode == 0, done.stderr


def test_steps_that_fill_the_memory(model: Path, capsys) -> None:
    arguments = ["compress", model, "c.h5", "--min-distance", "0.0045", "--step", "1e-4"]
    assert "pieces of a table, at most 1048576 can be held" in refused(capsys, *arguments)


# -------------------------------------------------------------------------------- training input


def test_training_input_of_the_wrong_shape(capsys) -> None:
    """Said before the graph is read, which takes TensorFlow."""
    for content, text in (
        ("[" * 100_000, "cannot read the training input input.json: maximum recursion depth"),
        ('{"model": ' + "[" * 400 + "]" * 400 + "}", "'model' of the training input is '[[["),
        ("[1, 2]", "is not a JSON object"),
        ('{"model": null}', "'model' of the training input is 'None', expected an object"),
        ('{"model": {"descriptor": [1]}}', "'descriptor' of the training input is '[1]', expected"),
        ('{"fitting_net": 7}', "'fitting_net' of the training input is '7', expected an object"),
        ("\xff\ud800", "cannot read the training input input.json: 'utf-8' codec can't decode"),
        ("{", "cannot read the training input input.json: Expecting property name"),
    ):
        Path("input.json").write_bytes(content.encode(errors="surrogatepass"))
        assert text in refused(capsys, "convert", GRAPH, "new.h5", "--input", "input.json")
        assert not Path("new.h5").exists()


# ----------------------------------------------------------------------------------- destinations


def test_a_source_is_never_overwritten(model: Path, tmp_path: Path, capsys) -> None:
    graph = Path(shutil.copy(GRAPH, "a.pb"))
    os.link(graph, "hard.pb")
    os.symlink(graph, "soft.pb")
    os.symlink(model, "soft.h5")
    Path("input.json").write_text("{}")
    before = {path: path.read_bytes() for path in (graph, model, Path("input.json"))}
    data = ["--data", "some.data"]
    for arguments in (
        ["convert", "a.pb", "a.pb"],
        ["convert", "a.pb", f"../{tmp_path.name}/a.pb"],
        ["convert", "a.pb", "hard.pb"],
        ["convert", "soft.pb", "a.pb"],
        ["convert", "a.pb", "input.json", "--input", "input.json"],
        ["compress", "model.h5", "soft.h5"],
        ["check", "model.h5", "--against", "reference", *data, "--json", "soft.h5"],
        ["bench", "model.h5", "--against", "soft.pb", *data, "--plot", "hard.pb"],
    ):
        assert "it is the file that is read" in refused(capsys, *arguments), arguments
    arguments = ["check", "model.h5", "--against", "reference", *data, "--json", "x"]
    assert "x is the same file" in refused(capsys, *arguments, "--report", "./x")
    assert "it is the file that is read" in sentence(lmp_dp("convert", "a.pb", "a.pb"))
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_no_file_is_never_replaced(model: Path, capsys) -> None:
    os.mkfifo("fifo")
    Path("folder").mkdir()
    os.symlink("/dev/null", "device")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        for name, kind in (
            ("fifo", "a pipe"),
            ("folder", "a folder"),
            ("device", "a device"),
            ("socket", "a socket"),
        ):
            before = os.lstat(name).st_ino
            line = refused(capsys, "compress", model, name)
            assert f"it is {kind}, expected a file or none" in line
            assert os.lstat(name).st_ino == before
    # first of all: the model is not even looked for
    assert "it is a pipe" in refused(capsys, "compress", "missing.h5", "fifo")
    assert "there is no such folder" in refused(capsys, "compress", model, "no/such/c.h5")
    assert "cannot write /proc/c.h5" in refused(capsys, "compress", model, "/proc/c.h5")
    os.symlink("loop", "loop")
    assert "symbolic links" in refused(capsys, "compress", model, "loop")
    with open("out.h5", "wb") as out:
        done = lmp_dp("compress", model, "out.h5", stdout=out.fileno())
    assert "the output of this command goes there" in sentence(done)


def test_a_program_that_runs_is_not_replaced(model: Path, capsys) -> None:
    """The one file that nobody may write, not even root."""
    program = shutil.copy(shutil.which("sleep") or "", "program")
    process = subprocess.Popen([os.path.abspath(program), "60"])
    try:
        assert "Text file busy" in refused(capsys, "compress", model, program)
    finally:
        process.kill()
        process.wait()


def test_links_are_followed_and_permissions_kept(model: Path) -> None:
    Path("there").mkdir()
    old, new = Path("there/old.h5"), Path("there/new.h5")
    old.write_text("something else")
    old.chmod(0o640)
    os.symlink(old, "to_old.h5")
    os.symlink("there/new.h5", "to_new.h5")
    for link in ("to_old.h5", "to_new.h5"):
        done = lmp_dp("compress", model, link, "--tolerance", "1e-3")
        assert done.returncode == 0, done.stderr
        assert Path(link).is_symlink()
    assert load(old).tables
    assert old.stat().st_mode & 0o777 == 0o640
    umask = os.umask(0)
    os.umask(umask)
    assert new.stat().st_mode & 0o777 == 0o666 & ~umask
    assert sorted(path.name for path in Path("there").iterdir()) == ["new.h5", "old.h5"]


# -------------------------------------------------------------------------------- half-way through


@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_that_fills(existing: bool, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)  # its own file would not fit
    target = Path("c.h5")
    if existing:
        target.write_text("old")
    before = sorted(Path().iterdir())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so that a file which would grow further is an OSError
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        done = lmp_dp("compress", model, target, "--tolerance", "1e-3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "cannot write c.h5: File too large" in sentence(done)
    assert sorted(Path().iterdir()) == before
    assert not existing or target.read_text() == "old"


def test_ctrl_c(model: Path) -> None:
    """While the training input is waited for, in a process that does not inherit a deaf ear."""
    os.mkfifo("input.json")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [LMP_DP, "convert", str(GRAPH), "new.h5", "--input", "input.json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with open("input.json", "wb"):  # returns when the command has opened it, too
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (output, errors) == (b"", b"lmp-dp convert: interrupted\n")
    assert not Path("new.h5").exists()


# ------------------------------------------------------------------------------------ hostile text


def edited(path: Path, hostile: str, elements: Sequence[str] = ("O", "H")) -> Path:
    with h5py.File(path, "r+") as file:
        group = file["provenance"]
        for name in ("source_file", "source_format", "converted_by"):
            group.attrs[name] = hostile
        group["training_script"][...] = hostile
        del group["notes"], file["type_map"]
        texts = h5py.string_dtype()
        group["notes"] = np.array([f"unproven: {hostile}"], dtype=texts)
        file["type_map"] = np.array(list(elements), dtype=texts)
        if "reference_frame" in file:
            file["reference_frame"].attrs["evaluated_by"] = hostile
    seal(path)
    return path


@pytest.mark.parametrize("coloured", [True, False])
def test_text_of_a_model_file_steers_nothing(coloured: bool, model: Path) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "500"} if coloured else {}
    done = lmp_dp("info", "--verify", edited(model, HOSTILE), **terminal)
    line = sentence(done)
    assert (
        r"unproven: \x1b]0;title\x07\x1b[2J\u202etxt\r\n[bold]x[/]y[/nothing] $x {%d} <b>" in line
    )
    assert_nothing_steers(line)
    done = lmp_dp("info", "--verify", edited(verified(model), HOSTILE), **terminal)
    assert done.returncode == 1, done.stderr  # a frame of zeros is not the model's
    found = done.stdout.decode()
    assert_nothing_steers(found)
    if coloured:
        assert "\x1b[" in found
        assert r"[bold]x[/]y[/nothing] $x {%d} <b>" in COLOURS.sub("", found)
    hostile_elements = edited(model, "", (HOSTILE, "H"))
    for arguments in (["info"], ["compress", "--tolerance", "1e-2"]):
        names = [hostile_elements, "c.h5"] if arguments[0] == "compress" else [hostile_elements]
        done = lmp_dp(arguments[0], *names, *arguments[1:], **terminal)
        assert done.returncode in (0, 2)
        assert_nothing_steers((done.stdout + done.stderr).decode())


def test_paths_steer_nothing(model: Path) -> None:
    name = HOSTILE.replace("/", "_")
    for arguments in (
        ["info", name],
        ["compress", name, "c.h5"],
        ["check", name, "--against", "reference", "--data", name],
        ["bench", name, "--data", name],
        ["convert", name, "c.h5"],
        ["info", "--nothing", name],
        [name],
    ):
        done = lmp_dp(*arguments)
        assert done.returncode == 2
        assert_nothing_steers(done.stderr.decode())
    shutil.copy(model, name)
    done = lmp_dp("compress", name, f"c{name}", "--tolerance", "1e-2")
    assert done.returncode == 0, done.stderr
    assert_nothing_steers(done.stdout.decode())
    assert r"c\x1b]0;title\x07\x1b[2J\u202etxt\r\n[bold]x[_]y[_nothing] $x {%d} <b>: " in (
        done.stdout.decode()
    )
