"""Pickles and archives of weights that run code, take all memory, or crash the interpreter."""

import builtins
import codecs
import functools
import io
import os
import pickle
import random
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fuzz_process import CANARY

State = dict[str, Any]


class Call:
    """An object that calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


CODE = f"open({str(CANARY)!r}, 'w')"
CALLS = (
    Call(os.system, f"touch {CANARY}"),
    Call(builtins.eval, CODE),
    Call(builtins.exec, CODE),
    Call(subprocess.Popen, ["touch", str(CANARY)]),
    Call(open, str(CANARY), "w"),
    Call(torch.hub._import_module, "x", str(CANARY)),
    Call(torch.hub.load, "/tmp", "x"),
    Call(torch.load, "/dev/zero"),
    Call(functools.partial, os.system, f"touch {CANARY}"),
    Call(torch.save, [1], str(CANARY)),
    Call(torch.storage._load_from_bytes, pickle.dumps(Call(builtins.eval, CODE))),
    Call(torch.jit.script, "x"),
)
"""code that the file carries"""

BOMBS = (
    Call(bytearray, 20_000_000_000),
    Call(torch.zeros, 5_000_000_000),
    Call(list, range(10)),
    Call(set, [Call(complex, 1)]),
    functools.reduce(
        lambda text, _: Call(codecs.encode, text, "hex"),
        range(40),
        b"a",  # doubles each time
    ),
    functools.reduce(lambda inner, _: {"model": inner}, range(300), {}),
)
"""values that are large or deep, but small in the file"""


def _tensors(size: int) -> tuple[Any, ...]:
    """Return values that are no ordinary tensors of weights."""
    weight = torch.zeros(1)
    return (
        weight.expand(size, 10**9),
        weight.expand(10**6, 10**6),
        torch.eye(size).to_sparse(),
        torch.empty(size, size, device="meta"),
        torch.zeros(size, size, dtype=torch.complex64),
        torch.zeros(size, size, dtype=torch.float8_e4m3fn),
        torch.zeros(0, size),
        torch.zeros([1] * 60),
        torch.full((size, size), float("nan")),
        torch.full((size, size), -float("inf")),
        torch.nn.Parameter(torch.zeros(size, size)),
        "text",
        None,
        3,
    )


def write_pickle(state: State, file: Path, rng: random.Random) -> None:
    """Save weights with a call or a value among them that should not be there."""
    name = rng.choice(list(state))
    size = state[name].shape[0]
    value = rng.choice((*CALLS, *CALLS, *BOMBS, *_tensors(size)))
    content = rng.choice(
        (
            {"model": {**state, name: value}},
            {"model": state, "args": value},
            {**state, name: value},
            {**state, rng.choice((3, (1, 2), "x" * 100_000, "a\nb", "a.\x00")): torch.zeros(1)},
            OrderedDict(state, **{name: value}),
            value,
            [state, value],
            {"state_dict": state, "cutline": {"vision": {"depth": 10**9}}},
            {"model": state, "cutline": {"text": {"vocab_size": [value, 10**30]}}},
        )
    )
    match rng.randrange(4):
        case 0:
            file.write_bytes(pickle.dumps(content))
        case 1:
            torch.save(content, file, _use_new_zipfile_serialization=False)
        case _:
            torch.save(content, file)


def write_opcodes(state: State, file: Path, rng: random.Random) -> None:
    """Write an archive with a pickle that no object makes."""
    deep_key = b"\x80\x02})" + b"\x85" * rng.choice((200, 100_000, 1_000_000)) + b"K\x01s."
    program = rng.choice(
        (
            deep_key,
            deep_key.replace(b"K\x01s.", b"q\x00h\x00\x86\x85" * 1000 + b"K\x01s."),
            b"\x80\x02" + b"]" * 10 + b"a" * 20 + b".",
            b"\x80\x02X\xff\xff\xff\xff.",
            b"\x80\x02cos\nsystem\n(X\x05\x00\x00\x00touch\x85R.",
            b"\x80\x02c" + b"o" * 100_000 + b"\nsystem\n.",
            f"\x80\x02c__builtin__\neval\n(V{CODE}\ntR.".encode("latin1"),
            f"\x80\x02(V{CODE}\ni__builtin__\neval\n.".encode("latin1"),
            f"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c{chr(len(CODE))}{CODE}\x85R.".encode(
                "latin1"
            ),
            b"\x80\x02" + b"(" * 1_000_000 + b".",
            b"\x80\x02h\x07.",
            b"",
            bytes(rng.randrange(256) for _ in range(200)),
        )
    )
    if rng.randrange(2):
        file.write_bytes(program)
        return
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def write_archive(state: State, file: Path, rng: random.Random) -> None:
    """Write an archive whose directory lies, or whose entries are compressed."""
    buffer = io.BytesIO()
    torch.save({"model": state}, buffer)
    with zipfile.ZipFile(buffer) as source:
        entries = [(info.filename, source.read(info)) for info in source.infolist()]
    kind = rng.randrange(8)
    compression = zipfile.ZIP_DEFLATED if kind < 3 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            name = f"../../../../tmp/{name}" if kind == 3 else name
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(content)
                if name.endswith(("data.pkl", "data/0")[kind % 2]) and kind < 2:
                    for _ in range(500):
                        entry.write(bytes(1_000_000))
        if kind == 4:
            archive.writestr("archive/DATA.PKL", pickle.dumps(CALLS[0], protocol=2))
    data = bytearray(file.read_bytes())
    directory = data.index(b"PK\x01\x02")
    if kind == 5:  # an entry of 4 GB
        data[directory + 20 : directory + 28] = b"\xfe\xff\xff\xff" * 2
    elif kind == 6:  # an entry at another place
        data[directory + 42 : directory + 46] = rng.randbytes(4)
    elif kind == 7:
        position = rng.randrange(directory, len(data))
        data[position : position + 8] = rng.randbytes(8)
    file.write_bytes(data)


def write_tar(state: State, file: Path, rng: random.Random) -> None:
    """Write the format of the first versions of PyTorch, with code in it."""
    with tarfile.open(file, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(rng.choice(CALLS), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name == "storages" and rng.randrange(2):
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))


WRITERS = (write_pickle, write_pickle, write_opcodes, write_archive, write_archive, write_tar)
