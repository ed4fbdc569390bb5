"""`cutline demo`."""

import sys
from pathlib import Path

from cutline.cli.console import program_name as program
from cutline.cli.console import stderr_console as stderr
from cutline.cli.flags import Output
from cutline.progress import progress_bar as progress


def demo(out: Output = "cutline-demo", *, seed: int = 0) -> int:
    """Train a small captioner on drawn scenes, measure it, and write a report. Needs no file and no network.

    Args:
        out: folder for the model, the captions and report.html.
        seed: decides the scenes and the training.
    """
    from cutline.demo.pipeline import run_demo

    truth = run_demo(Path(out), seed, lambda text: stderr().print(text), progress)
    sys.stdout.write(
        f"{truth.share:.1%} of {len(truth.scenes)} captions of unseen scenes are true in every word.\n"
        f"Look at {out}/report.html. Then try:\n"
        f"  {program()} caption {out}/scenes/heldout/scene-00000?.png --model {out}/model\n"
        f"  {program()} evaluate {out}/scenes/heldout --model {out}/model --report sheet.html\n"
        f"  {program()} train recipes/own-photos.yaml --data.train YOUR-PHOTOS\n"
    )
    return 0
