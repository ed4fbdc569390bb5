"""Commands that are stopped, and commands whose streams and inputs are not what they expect."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import run_command, start_command
from random_captioner import save_captioner
from stopped_runs import stop

from cutline.cli.main import COMMANDS, main
from cutline.cli.main import run_command as run_in_process
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.interrupt import Interrupted

CUTLINE = f"{sys.executable} -m cutline"
PROGRAM = """
import signal
from cutline.cli import main
from cutline.interrupt import STOP_SIGNALS
for number in STOP_SIGNALS:  # which the caller of the tests may ignore, as nohup does
    signal.signal(number, signal.SIG_DFL)
main()
"""
needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="needs sh")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of so many scenes that every command takes a while."""
    folder = tmp_path_factory.mktemp("processes") / "scenes"
    write_scenes(folder, make_scenes(300, seed=5), size=32)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a captioner with random weights."""
    folder = tmp_path_factory.mktemp("processes") / "model"
    save_captioner(folder)
    return folder


def run(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return run_command([*map(str, words)], None, stdin, {**os.environ, "OMP_NUM_THREADS": "1"})


def sh(command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=120)


def wait_until_stoppable(process: subprocess.Popen[bytes]) -> None:
    """Wait until a command handles SIGTERM and, after it, SIGHUP."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = int(status.read_text().partition("SigCgt:")[2].split()[0], 16)
        if all(caught >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGHUP)):
            return
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_command_stops_at_sigterm_and_ctrl_c(
    scenes: Path, model: Path, tmp_path: Path
) -> None:
    commands = [
        ["caption", scenes, "-m", model],
        ["evaluate", scenes, "-m", model],
        ["check", scenes],
        ["demo", "-o", tmp_path / "demo"],
    ]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for words in commands
        ]
        for process in processes:
            wait_until_stoppable(process)
            process.send_signal(number)
        for process in processes:
            _, stderr = process.communicate(timeout=60)
            assert process.returncode == code, stderr
            assert stderr.endswith(b"cutline: stopped\n")


def test_a_signal_before_the_command_begins_stops_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_at_once() -> None:
        raise Interrupted("", signal.SIGTERM)

    monkeypatch.setattr(sys.modules[main.__module__], "interrupt_on_signals", stop_at_once)
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 143
    assert capsys.readouterr().err == "cutline: stopped\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_stopped_command_keeps_its_captions(scenes: Path, model: Path, tmp_path: Path) -> None:
    output, unreadable = tmp_path / "captions.jsonl", tmp_path / "unreadable.png"
    unreadable.touch()
    photos = sorted(scenes.glob("*.png"))
    words = [*photos[:10], unreadable, *photos[10:], "-m", model, "-o", output, "--num-beams", 9]
    log = tmp_path / "log.txt"
    process = start_command(["caption", *map(str, words)], log)
    while not (log.exists() and log.read_text().count("\n")):
        assert process.is_alive()
        time.sleep(0.005)
    assert log.read_text().startswith("cutline: skipped:")
    assert stop(process) == 143
    assert log.read_text().splitlines()[1].startswith("cutline: stopped after ")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    images = [row["image"] for row in rows]
    assert 1 <= len(rows) < len(photos)
    assert images == [photo for photo in map(str, photos) if photo in set(images)]


@needs_sh
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--help >&-", "stdout: cannot be written (Bad file descriptor); redirect it to a file on"),
        ("--help > /dev/full", "stdout: cannot be written (No space left on device); redirect it"),
        ("--help >&- <&-", "stdout: cannot be written (Bad file descriptor)"),
        ("caption - <&-", "stdin is empty; give an image file"),
    ],
)
def test_a_stream_that_cannot_be_used_is_an_error(command: str, message: str) -> None:
    result = sh(f"{CUTLINE} {command}")
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"cutline: {message}")
    assert result.stderr.count(b"\n") == 1


@needs_sh
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("/dev/null", "stdin is empty; give an image file"),
        ("/dev/zero", "stdin has more than 512 MiB; give one image file"),
    ],
)
def test_a_stdin_without_an_image_is_an_error(file: str, message: str) -> None:
    result = run_command(["caption", "-"], None, Path(file), {**os.environ})
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"cutline: {message}")
    assert result.stderr.count(b"\n") == 1


@needs_sh
def test_a_closed_or_full_stderr_is_none() -> None:
    for redirection in ("2>&-", "2> /dev/full", "<&- 2>&-"):
        assert sh(f"{CUTLINE} no-such-command {redirection}").returncode == 2
        result = sh(f"{CUTLINE} --version {redirection}")
        assert result.returncode == 0
        assert result.stdout.startswith(b"cutline ")


def test_one_missing_path_among_many_is_listed(scenes: Path, model: Path, tmp_path: Path) -> None:
    photos = [scenes / "scene-000000.png", scenes / "scene-000001.png"]
    missing = tmp_path / "missing.jpg"
    result = run("caption", photos[0], missing, photos[1], photos[0], "-m", model)
    assert result.returncode == 3
    lines = result.stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == [*map(str, photos)]
    messages = result.stderr.decode().splitlines()
    assert messages[0].startswith(f"cutline: skipped: {missing}: no images found")
    assert messages[1] == "cutline: skipped, because the sources contain them several times: 1"
    assert messages[2].startswith("cutline: 1 of 4 images could not be captioned")
    result = run("caption", missing, tmp_path / "other.jpg", "-m", model)
    assert result.returncode == 1
    assert result.stderr.count(b"\n") == 3


def test_outputs_are_checked_before_any_work(scenes: Path, tmp_path: Path) -> None:
    """The model does not exist, and is not looked for."""
    (tmp_path / "file").touch()
    bad = tmp_path / "file" / "out"
    commands = [
        ["caption", scenes, "-m", "no/such/model", "-o", f"{bad}.jsonl"],
        ["evaluate", scenes, "-m", "no/such/model", "-o", f"{bad}.csv"],
        ["evaluate", scenes, "-m", "no/such/model", "--report", f"{bad}.html"],
        ["evaluate", scenes, "-m", "no/such/model", "--json", f"{bad}.json"],
        ["check", "no/such/data", "-o", f"{bad}.jsonl"],
        ["check", "no/such/data", "--report", f"{bad}.html"],
        ["compare", "no.jsonl", "no.csv", "--references", "no", "--report", f"{bad}.html"],
        ["convert", "no/such/model", bad],
    ]
    for words in commands:
        result = run(*words)
        assert result.returncode == 1
        assert f"{words[-1]}: cannot be written (Not a directory)" in result.stderr.decode()
    result = run("check", "no/such/data", "--report", tmp_path)
    assert result.returncode == 2
    assert f"{tmp_path}: a folder; name a file" in result.stderr.decode()


def test_nothing_is_captioned_if_captions_cannot_be_kept(
    scenes: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    limit_file_size: Callable[[int | None], None],
) -> None:
    photo, output = scenes / "scene-000000.png", tmp_path / "captions.jsonl"
    output.write_text("of last week")
    limit_file_size(10)
    words = ["caption", str(photo), "-m", str(model), "-o", str(output), "--new-run"]
    assert run_in_process(words) == 1
    assert "manifest.json: File too large" in capsys.readouterr().err
    assert output.read_text() == "of last week"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory; lower the batch size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough"),
        (ZeroDivisionError("by\nzero"), "an internal error occurred (ZeroDivisionError: by)"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "an internal error occurred (UnicodeEn"),
        (
            PermissionError(13, "Permission denied", "a.txt"),
            "a.txt: Permission denied; check the path",
        ),
        (OSError(28, "No space left on device"), "a file: No space left on device; free some disk"),
        (OSError("no number"), "an internal error occurred (OSError: no number); run the command"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_one_sentence_and_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    def fail() -> int:
        raise error

    monkeypatch.setitem(COMMANDS, "fail", fail)
    assert run_in_process(["fail"]) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"cutline: {message}")
    assert text.count("\n") == 1
    assert run_in_process(["fail", "--debug"]) == 1
    assert "Traceback (most recent call last):" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "狗 ".encode() + b"\xff\n"),
        ("ascii", b"\\u72d7 \\udcff\n"),
        ("latin-1", b"\\u72d7 \\udcff\n"),
    ],
)
def test_characters_that_the_terminal_lacks_are_escaped(encoding: str, expected: bytes) -> None:
    program = (
        "from cutline.cli.console import prepare_streams, print_result\n"
        "prepare_streams()\n"
        "print_result('\\u72d7 \\udcff\\n')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert result.stdout == expected
    assert result.stderr == b""


@pytest.mark.parametrize("columns", ["1", "0", "abc", "10000"])
def test_help_does_not_depend_on_the_terminal(columns: str) -> None:
    environment = {"PATH": os.environ["PATH"], "LANG": "C", "COLUMNS": columns}  # and no HOME
    result = subprocess.run(
        [sys.executable, "-m", "cutline", "train", "--help"],
        capture_output=True,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    assert result.returncode == 0
    assert result.stdout == run("train", "--help").stdout


def test_an_output_never_replaces_the_data_that_is_read(scenes: Path, tmp_path: Path) -> None:
    """The model does not exist, and is not looked for."""
    data = tmp_path / "photos"
    data.mkdir()
    captions = data / "captions.jsonl"
    captions.write_bytes((scenes / "captions.jsonl").read_bytes())
    (tmp_path / "link.jsonl").symlink_to(captions)
    (tmp_path / "link.html").symlink_to(captions)
    before = captions.read_bytes()
    for words in (
        ["evaluate", captions, "-m", "no/such/model", "-o", captions],
        ["evaluate", data, "-m", "no/such/model", "--json", captions],
        ["evaluate", data, "-m", "no/such/model", "-o", tmp_path / "link.jsonl"],
        ["check", data, "-o", captions],
        ["compare", captions, "b.jsonl", "--references", data, "--report", tmp_path / "link.html"],
    ):
        result = run(*words)
        assert result.returncode == 2, words
        assert b"would overwrite the data that is read; name another file" in result.stderr
    result = run("caption", scenes, "-m", "no/such/model", "-o", tmp_path / "out" / ".txt")
    assert result.returncode == 2
    assert captions.read_bytes() == before


@pytest.mark.slow
@needs_sh
def test_results_go_to_files_though_nobody_reads_stdout(
    scenes: Path, model: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    rows = [json.loads(line) for line in (scenes / "captions.jsonl").read_text().splitlines()[:3]]
    rows = [{**row, "file_name": str(scenes / row["file_name"])} for row in rows]
    few.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = sh(f"{CUTLINE} evaluate {few} -m {model} --json {tmp_path}/scores.json > /dev/full")
    assert result.returncode == 1
    assert "scores" in json.loads((tmp_path / "scores.json").read_text())
    result = sh(f"{CUTLINE} evaluate {few} -m {model} --json /dev/stdout | cat")
    assert b'"scores"' in result.stdout
    result = sh(f"{CUTLINE} evaluate {few} -m {model} --json /dev/stdout > {tmp_path}/all.txt")
    assert result.returncode == 1
    assert b"/dev/stdout: a file, to which the results go anyway" in result.stderr
