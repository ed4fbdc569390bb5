"""Shorten the commands of the documentation; as a program, take the place of `torchrun`."""

import os
import shlex
import sys

SHORTENED = {
    "--overfit 1": "--optim.batch-size 2 --optim.lr 3e-3",
    "--lr-range": "--optim.batch-size 1 --optim.grad-accum-steps 1 --data.num-workers 0",
    "train recipes/aerial": "--optim.max-steps 2 --data.num-workers 0 --optim.batch-size 2",
    "train recipes/own-photos.yaml": "--optim.max-steps 3 --optim.batch-size 4 "
    "--data.num-workers 0 --tensorboard off",
    "train recipes/match.yaml": "--optim.max-steps 2 --optim.batch-size 4 --data.num-workers 0 "
    "--eval.max-images 4 --tensorboard off",
    "train recipes/pretrain.yaml": "--optim.max-steps 2 --optim.batch-size 4 --data.num-workers 0 "
    "--eval.max-images 4 --tensorboard off --match.queue-size 100",
    "train recipes/coco-": "--optim.max-steps 2 --optim.batch-size 1 --data.num-workers 0 "
    "--eval.max-images 2 --tensorboard off --init.config= --init.image-size 32",
    "--num-captions 40": "--num-captions 4",
    "--resamples": "--resamples 20",
}
"""flags added to a command, so that it ends within seconds"""
PROCESSES = {"8": "2", "4": "1"}
"""processes of `torchrun` on a machine, in place of as many GPUs"""


def split_command(line: str) -> list[str]:
    """Return the words of a command, shortened."""
    flags = next((flags for text, flags in SHORTENED.items() if text in line), "")
    words = shlex.split(f"{line} {flags}")
    if "--nproc-per-node" in words:
        index = words.index("--nproc-per-node") + 1
        words[index] = PROCESSES.get(words[index], words[index])
    if "--rdzv-endpoint" in words:  # of a node that is this machine
        index = words.index("--rdzv-endpoint") + 1
        words[index] = f"localhost:{os.environ['RENDEZVOUS_PORT']}"
    return words


if __name__ == "__main__":
    words = split_command(shlex.join(sys.argv[1:]))
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *words])
