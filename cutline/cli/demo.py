"""`cutline demo`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from cutline.cli.console import print_result, program_name, stderr_console
from cutline.cli.flags import Output
from cutline.progress import progress_bar

NUM_PHOTOS = 40


def demo_command(
    output: Output = "cutline-demo",
    *,
    photos: Annotated[str, arg(metavar="FOLDER")] = "",
    seed: int = 0,
) -> int:
    """Train a small captioner on drawn scenes, measure it, and write a report.

    The demo needs no files, no network and no GPU, and takes minutes on two CPU cores.

    Examples:
        cutline demo

        cutline demo --photos photos

    Args:
        output: Folder for the model, the images, the captions and report.html.
        photos: Only draw 40 example images with captions into FOLDER.
        seed: Seed of the scenes and of the training.
    """
    if photos:
        draw_photos(Path(photos), seed)
        return 0
    from cutline.demo.run import run_demo

    console = stderr_console()
    result = run_demo(Path(output), seed, console.print, progress_bar)
    program = program_name()
    print_result(
        f"{100 * result.accuracy:.1f} % of {len(result.scenes)} captions of unseen scenes are "
        "correct in every word.\n"
        f"{output}/report.html shows them. Try:\n"
        f"  {program} caption {output}/scenes/heldout/scene-00000?.png --model {output}/model\n"
        f"  {program} evaluate {output}/scenes/heldout --model {output}/model\n"
        f"  {program} train recipes/own-photos.yaml --data.train YOUR-PHOTOS\n"
    )
    return 0


def draw_photos(folder: Path, seed: int) -> None:
    """Draw example images: scenes that the demo's captioner has not seen.

    Raises:
        ConfigError: The folder contains other files, which must not be overwritten.
    """
    from cutline.demo.scenes import check_drawn_folder, make_scenes, write_scenes

    check_drawn_folder(folder, folder)
    write_scenes(folder, make_scenes(NUM_PHOTOS, seed, "heldout"))
    print_result(f"{folder} contains {NUM_PHOTOS} images, and their captions in captions.jsonl.\n")
