"""The command line in real processes: output, errors and exit codes."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from forked import run_command, start_command
from stopped_runs import stop

import cutline
from cutline.config import Recipe, to_dict
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.training import read_log, train

REPOSITORY = Path(__file__).parents[1]


def run(
    *words: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `cutline WORDS…` offline in its own process."""
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        **environment,
    }
    env.pop("CUTLINE_MODEL", None) if "CUTLINE_MODEL" not in environment else None
    return run_command([*map(str, words)], cwd, stdin, env)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of drawn scenes."""
    folder = tmp_path_factory.mktemp("cli") / "scenes"
    write_scenes(folder, make_scenes(12, seed=2))
    return folder


@pytest.fixture(scope="module")
def recipe(scenes: Path) -> Path:
    """Return a recipe whose run takes a second."""
    settings = to_dict(Recipe())
    settings |= {"output": str(scenes.parent / "run"), "precision": "fp32", "log_every": 1}
    settings["model"] |= {
        "vision": {"image_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2},
        "text": {"embed_dim": 32, "depth": 1, "num_heads": 2, "mlp_dim": 64, "max_positions": 48},
    }
    settings["data"] |= {"train": str(scenes), "val": str(scenes), "num_workers": 0}
    settings["optim"] |= {"batch_size": 6, "epochs": 2, "lr": 1e-3}
    path = scenes.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def model(recipe: Path) -> Path:
    """Return a captioner after a few training steps."""
    return train(recipe, show_progress=False)


def test_import_and_help_do_not_import_torch() -> None:
    program = """
import sys, cutline, cutline.cli
try:
    cutline.cli.main(["--help"])
finally:
    print("torch" in sys.modules, "numpy" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.endswith("False False\n")
    assert "usage: cutline COMMAND" in result.stdout


def test_every_command_has_a_help_page() -> None:
    overview = run("--help")
    assert overview.returncode == 0
    names = ["demo", "caption", "check", "train", "report", "evaluate", "compare", "score"]
    for name in [*names, "convert"]:
        assert re.search(rf"^  {name} ", overview.stdout.decode(), re.M)
        result = run(name, "--help")
        page = result.stdout.decode()
        assert result.returncode == 0
        assert page.startswith(f"usage: cutline {name}")
        assert "Examples:" in page
        assert max(map(len, page.splitlines())) <= 100
        assert not re.search(r"\(default: (None|)\)|None\}", page)
        assert not re.search(r"^  --[^ ]*( [^ ]+)?$\n(?! {26})", page, re.M), "a flag without help"
    page = run("train", "--help").stdout.decode()
    assert "--optim.lr X            peak learning rate (default: 1e-05)" in page
    assert "LoRA (lora):\n" in page
    assert run("--version").stdout == f"cutline {cutline.__version__}\n".encode()


def test_captions_go_to_stdout_one_line_per_image(model: Path, scenes: Path) -> None:
    result = run(
        "caption", scenes / "scene-000001.png", scenes / "scene-000000.png", "--model", model
    )
    assert result.returncode == 0, result.stderr
    lines = [line.split("\t") for line in result.stdout.decode().splitlines()]
    assert [line[0] for line in lines] == [
        str(scenes / "scene-000001.png"),
        str(scenes / "scene-000000.png"),
    ]
    expected = cutline.load(model).caption(
        [scenes / "scene-000001.png", scenes / "scene-000000.png"]
    )
    assert [line[1] for line in lines] == [caption.text for caption in expected]
    assert result.stderr == b""


def test_folders_patterns_stdin_and_environment_variable(model: Path, scenes: Path) -> None:
    folder = run("caption", scenes, CUTLINE_MODEL=str(model))
    assert folder.stdout.count(b"\n") == 12
    pattern = run("caption", str(scenes / "scene-00000?.png"), "--model", model)
    assert pattern.stdout.splitlines() == folder.stdout.splitlines()[:10]
    piped = run("caption", "-", "--model", model, stdin=(scenes / "scene-000000.png").read_bytes())
    assert (
        piped.stdout.split(b"\t")[1] == folder.stdout.splitlines(keepends=True)[0].split(b"\t")[1]
    )


def test_settings_are_flags(model: Path, scenes: Path) -> None:
    photo = scenes / "scene-000000.png"
    result = run(
        "caption",
        photo,
        "-m",
        model,
        "--num-beams",
        4,
        "--num-captions",
        3,
        "--max-length",
        12,
        "--prompt",
        "",
    )
    [expected] = cutline.load(model).caption(photo, "", num_beams=4, num_captions=3, max_length=12)
    assert [line.split("\t")[1] for line in result.stdout.decode().splitlines()] == [
        caption.text for caption in expected.alternatives
    ]


def test_bad_words_and_log_probabilities(model: Path, scenes: Path, tmp_path: Path) -> None:
    photo, output = scenes / "scene-000000.png", tmp_path / "captions.jsonl"
    flags = ("-m", model, "--token-log-probs", "--num-captions", 2, "-o", output)
    result = run("caption", photo, "--bad-words", "a", "left of", *flags)
    assert result.returncode == 0, result.stderr
    [expected] = cutline.load(model).caption(
        photo, num_captions=2, bad_words=["a", "left of"], token_log_probs=True
    )
    row = json.loads(output.read_text())
    assert (row["caption"], len(row["alternatives"])) == (expected.text, 2)
    for values, other in zip(row["alternatives"], expected.alternatives, strict=True):
        assert values["token_log_probs"] == pytest.approx(other.token_log_probs, abs=1e-6)
    assert row["token_log_probs"] == row["alternatives"][0]["token_log_probs"]
    missing = run("caption", photo, "-m", model, "--bad-words", "a", "😀")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert "bad_words '😀' is not in the model's vocabulary" in missing.stderr.decode()


@pytest.mark.parametrize("output", ["captions.jsonl", "captions.csv", "texts/"])
def test_captions_go_to_files(model: Path, scenes: Path, tmp_path: Path, output: str) -> None:
    result = run(
        "caption",
        scenes,
        "--model",
        model,
        "-o",
        tmp_path / output if output[-1] != "/" else f"{tmp_path}/{output}",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == b""
    captions = [
        caption.text for caption in cutline.load(model).caption(sorted(scenes.glob("*.png")))
    ]
    if output.endswith("jsonl"):
        written = [
            json.loads(line)["caption"] for line in (tmp_path / output).read_text().splitlines()
        ]
    elif output.endswith("csv"):
        with (tmp_path / output).open(newline="") as file:
            written = [row["caption"] for row in csv.DictReader(file)]
    else:
        written = [path.read_text().strip() for path in sorted((tmp_path / "texts").glob("*.txt"))]
    assert written == captions


def test_text_files_beside_the_images(model: Path, scenes: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path, make_scenes(2, seed=9))
    assert run("caption", tmp_path, "--model", model, "-o", ".txt").returncode == 0
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == [
        "scene-000000.txt",
        "scene-000001.txt",
    ]


def test_unreadable_images_are_listed_with_exit_code_3(
    model: Path, scenes: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 cut off")
    output = tmp_path / "out.jsonl"
    result = run("caption", scenes / "scene-000000.png", bad, "--model", model, "-o", output)
    assert result.returncode == 3
    assert len(output.read_text().splitlines()) == 1
    assert b"skipped: " in result.stderr
    assert b"bad.jpg" in result.stderr
    assert b"1 of 2 images could not be captioned" in result.stderr
    assert run("caption", bad, "--model", model).returncode == 1


def test_errors_are_one_line_and_an_exit_code(
    model: Path, scenes: Path, tmp_path: Path, recipe: Path
) -> None:
    photo = scenes / "scene-000000.png"
    misspelt = tmp_path / "misspelt.yaml"
    misspelt.write_text("optim: {learning_rate: 1}")
    cases = [
        (("caption", tmp_path / "nothing.jpg", "-m", model), 1, "nothing.jpg: no images found"),
        (
            ("caption", photo, "-m", model, "-o", "out.docx"),
            2,
            "out.docx: captions cannot be written to a .docx file",
        ),
        (("caption", photo, "-m", tmp_path / "no-model"), 1, "no-model"),
        (
            ("caption", photo, "-m", model, "--num-beams", 0),
            2,
            "num_beams must be at least 1, not 0",
        ),
        (
            ("caption", photo, "-m", model, "--device", "moon"),
            2,
            "device 'moon' is not one of auto",
        ),
        (("train", "no.yaml"), 2, "no.yaml: the recipe cannot be read"),
        (("train", "notes.txt"), 2, "a recipe is a .yaml file"),
        (("train", misspelt), 2, "unknown setting `optim.learning_rate`"),
        (
            ("evaluate", scenes, "-m", model, "-o", ".txt"),
            2,
            "evaluate writes captions to a .jsonl, .csv or .parquet file",
        ),
        (
            ("evaluate", scenes, "-m", model, "-o", "captions.xlsx"),
            2,
            "captions.xlsx: evaluate writes captions to a .jsonl, .csv or .parquet file",
        ),
        (("evaluate", tmp_path / "no.jsonl", "-m", model), 1, "no.jsonl: no such file or folder"),
        (("caption", "-m", model), 2, "name the images to caption"),
        (("score", photo, "-m", model), 2, "name at least one caption"),
        (("sing",), 2, "unknown command 'sing'"),
        (("caption", photo, "--workers", 2), 2, "--workers is now --num-workers"),
        (("caption", photo, "--engine", "plain"), 2, "--engine plain is now --engine eager"),
        (
            ("train", recipe, "--start.captioner", "x"),
            2,
            "--start.captioner is now --init.captioner",
        ),
        (("convert", tmp_path / "no-model", tmp_path / "out"), 1, "no-model"),
    ]
    for words, code, sentence in cases:
        result = run(*words, cwd=tmp_path)
        text = result.stderr.decode()
        assert result.returncode == code, (words, text)
        assert sentence in text, (words, text)
        assert "Traceback" not in text
        assert text.count("\n") == 1, (words, text)
    assert run("caption", "--no-such-flag").returncode == 2
    assert run().returncode == 2


def test_without_model_and_hub_the_error_names_both_fixes(scenes: Path, tmp_path: Path) -> None:
    result = run("caption", scenes / "scene-000000.png", HF_HOME=str(tmp_path))
    text = result.stderr.decode()
    assert result.returncode == 1
    assert text.count("\n") == 1
    assert "Salesforce/blip-image-captioning-base" in text
    assert "--model PATH" in text
    assert "cutline demo" in text


def test_train_evaluate_score_and_convert(recipe: Path, scenes: Path, tmp_path: Path) -> None:
    result = run("train", recipe, "--output", tmp_path / "run", "--optim.epochs", 1)
    assert result.returncode == 0, result.stderr
    best = tmp_path / "run" / "best"
    assert f"the best checkpoint is in {best}" in result.stderr.decode()
    assert cutline.read_recipe(tmp_path / "run" / "recipe.yaml").optim.epochs == 1

    found = run(
        "evaluate",
        scenes,
        "-m",
        best,
        "-o",
        tmp_path / "c.jsonl",
        "--report",
        tmp_path / "report.html",
    )
    assert found.returncode == 0, found.stderr
    numbers = dict(line.split() for line in found.stdout.decode().splitlines())
    scores, varied = (
        ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"],
        ["distinct1", "distinct2", "mean_length", "vocabulary", "unique"],
    )
    assert list(numbers) == [*scores, "num_pictures", *varied]
    assert numbers["num_pictures"] == "12"
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 12
    assert (tmp_path / "report.html").stat().st_size > 5000

    photo = scenes / "scene-000000.png"
    scored = run("score", photo, "a red circle", "two stars", "-m", best)
    values = [float(line.split("\t")[0]) for line in scored.stdout.decode().splitlines()]
    assert len(values) == 2
    assert values == sorted(values, reverse=True)

    assert run("convert", best, tmp_path / "hf", "--to", "huggingface").returncode == 0
    again = run("caption", photo, "-m", tmp_path / "hf")
    assert again.stdout == run("caption", photo, "-m", best).stdout


def test_evaluate_with_intervals_domains_and_training_captions(
    model: Path, scenes: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (scenes / "captions.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {
            "file_name": str(scenes / row["file_name"]),
            "domain": ("near-domain", "out-domain")[number % 2],
        }
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (
        "--resamples",
        50,
        "--train-captions",
        scenes,
        "--json",
        tmp_path / "numbers.json",
        "--metric-tokenizer",
        "words",
    )
    result = run("evaluate", tmp_path / "data.jsonl", "-m", model, *words)
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode()
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    low, high = numbers["intervals"]["bleu1"]
    assert f"bleu1         {numbers['scores']['bleu1']:.4f}  [{low:.4f}, {high:.4f}]\n" in text
    assert f"novel         {numbers['diversity']['novel']:.4f}\n" in text
    assert re.search(r"^ +near-domain +out-domain +all$", text, re.M)
    assert re.search(r"^num_pictures +6 +6 +12$", text, re.M)
    cider = [
        numbers["domains"]["near-domain"]["cider"],
        numbers["domains"]["out-domain"]["cider"],
        numbers["scores"]["cider"],
    ]
    assert re.search(rf"^cider +{' +'.join(f'{value:.4f}' for value in cider)}$", text, re.M)


def test_compare_two_caption_files(model: Path, scenes: Path, tmp_path: Path) -> None:
    assert run("evaluate", scenes, "-m", model, "-o", tmp_path / "first.jsonl").returncode == 0
    rows = [json.loads(line) for line in (scenes / "captions.jsonl").read_text().splitlines()]
    with (tmp_path / "second.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["image", "caption"], *([row["file_name"], row["captions"][0]] for row in rows)]
        )
    files = (tmp_path / "first.jsonl", tmp_path / "second.csv", "--references", scenes)
    result = run(
        "compare",
        *files,
        "--report",
        tmp_path / "report.html",
        "--json",
        tmp_path / "numbers.json",
        "--resamples",
        500,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.decode().splitlines()
    assert lines[0].split() == ["first", "second", "difference"]
    assert [line.split()[0] for line in lines[1:7]] == [
        "bleu1",
        "bleu2",
        "bleu3",
        "bleu4",
        "rouge_l",
        "cider",
    ]
    assert lines[7] == "12 images"
    assert lines[-1].startswith("second is better in BLEU-1 (+")
    assert json.loads((tmp_path / "numbers.json").read_text())["verdict"] == lines[-1]
    assert "second better" in (tmp_path / "report.html").read_text()

    (tmp_path / "first.jsonl").write_text(
        (tmp_path / "first.jsonl").read_text() + '{"image": "gone.png", "caption": "a star"}\n'
    )
    result = run("compare", *files, "--resamples", 20)
    assert result.returncode == 3
    assert (
        result.stderr.decode()
        == f"cutline: left out: {tmp_path / 'first.jsonl'}: gone.png has no references\n"
    )
    assert result.stdout


def test_show_batch_prints_tokens_labels_and_losses(recipe: Path, tmp_path: Path) -> None:
    result = run("train", recipe, "--show-batch", "--output", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert re.search(rb"\[DEC\] +\(not scored\) +-", result.stdout)
    assert re.search(rb"scored tokens, summed loss [\d.]+, mean [\d.]+", result.stdout)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_saves_and_resume_continues(recipe: Path, tmp_path: Path) -> None:
    """Send SIGINT to a training process."""
    words = ["train", str(recipe), "--output", str(tmp_path / "run"), "--optim.epochs", "2000"]
    process = start_command(words, tmp_path / "output.txt")
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 5):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert stop(process, signal.SIGINT) == 130
    output = (tmp_path / "output.txt").read_text().replace("\n", " ")
    step = int(re.search(r"stopped after step (\d+); .*--resume", output).group(1))
    resumed = start_command([*words, "--resume"])
    while [line["step"] for line in read_log(log) if "loss" in line][-1] <= step:
        assert resumed.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert stop(resumed, signal.SIGTERM) == 143
    steps = [line["step"] for line in read_log(log) if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))  # nothing lost, nothing twice


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_a_closed_pipe_is_no_error() -> None:
    pipe = f"set -o pipefail; {sys.executable} -m cutline --help | head -n 1"
    result = subprocess.run(["bash", "-c", pipe], capture_output=True, timeout=60)
    assert result.returncode == 0
    assert result.stdout.count(b"\n") == 1
    assert b"Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes")
def test_captions_stop_quietly_if_the_pipe_is_closed(
    model: Path, scenes: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["head", "-n", "1", str(pipe)], stdout=subprocess.PIPE) as head:
        words = ["caption", str(scenes), "--batch-size", "1", "--model", str(model)]
        result = run_command(words, None, b"", {**os.environ}, stdout=pipe)
        assert head.communicate(timeout=60)[0].count(b"\n") == 1
    assert (result.returncode, result.stderr) == (0, b"")


def test_bars_on_a_terminal_leave_stdout_to_the_pipe(model: Path, scenes: Path) -> None:
    """With a real terminal as stderr, captions still go to the piped stdout."""
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    reading_end, terminal = pty.openpty()
    words = ["caption", str(scenes), "--model", str(model)]
    environment = {**os.environ, "TERM": "xterm"}
    result = run_command(words, None, b"", environment, stderr=Path(os.ttyname(terminal)))
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):  # a terminal whose other end is closed
        while part := os.read(reading_end, 4096):
            seen += part
    os.close(reading_end)
    assert result.returncode == 0
    assert result.stdout == run("caption", scenes, "--model", model).stdout
    assert b"captioning" in seen
