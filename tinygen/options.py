"""The options of each command: what argparse is told.

A command's options are a function that adds them to its parser; cli.py names it beside the function that runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        fail(f"{message} (see: {self.prog} --help)")


def fail(message: str) -> NoReturn:
    """Ends the program with a line on stderr and exit code 2."""
    print(f"tinygen: {message}", file=sys.stderr)
    raise SystemExit(2)


def parser_of(commands: Mapping[str, Any]) -> Parser:
    """The parser of all commands: {name: an object with `help` and `options`}."""
    about = "Generative models, from the equation to the kernel."
    parser = Parser(prog="tinygen", description=about, allow_abbrev=False)
    each = parser.add_subparsers(dest="command", metavar="command")
    for name, command in commands.items():
        one = each.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        command.options(one)
    return parser


def train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="its name; see: tinygen list")
    _data_options(parser)
    parser.add_argument("--epochs", type=_positive(int), help="passes over the training images")
    parser.add_argument("--batch-size", type=_positive(int), help="images per step")
    parser.add_argument("--lr", type=_positive(float), help="learning rate")
    parser.add_argument("--seed", type=_seed, default=0, help="same seed and threads, same run (default 0)")
    parser.add_argument("--preset", default="cpu", help="sizes and device: cpu (default), gpu, or tiny (seconds)")
    parser.add_argument("--device", help="cpu, cuda or cuda-emulated (default: the preset's)")
    parser.add_argument(
        "--threads", type=_positive(int), help="CPU threads (default: all cores; 1 for images below 16 pixels)"
    )
    parser.add_argument("--keep", help="last (default), best or best:METRIC, judged on a tenth of the training images")
    _set_option(parser, "an argument of the recipe, such as latent=2; see: tinygen list NAME")
    parser.add_argument("--out", type=_path, help="folder of the run (default: runs/<recipe>-<next number>)")


def resume(parser: argparse.ArgumentParser) -> None:
    _run_options(parser)
    parser.add_argument("--epochs", type=_positive(int), help="train until so many epochs are done in total")


def sample(parser: argparse.ArgumentParser) -> None:
    _run_options(parser)
    text = "of the weights that ship with tinygen: then RUN is a recipe's name, such as vae-d2"
    parser.add_argument("--pretrained", action="store_true", help=text)
    parser.add_argument("-n", type=_positive(int), default=64, help="how many (default 64)")
    parser.add_argument("--seed", type=_seed, default=1, help="same seed, same samples (default 1)")
    text = "draw with the average of the weights, where the run keeps one (dcgan-averaged)"
    parser.add_argument("--averaged", action="store_true", help=text)
    parser.add_argument(
        "--out", type=_path, help="picture file, or .npy for the numbers (default: <run>/sample-<seed>.png, "
        "of averaged weights <run>/averaged-<seed>.png, of pretrained ones <name>-sample-<seed>.png)"
    )
    parser.epilog = "A model may take further options, such as --label 7: an unknown one lists them."


def apply(parser: argparse.ArgumentParser) -> None:
    _run_options(parser)
    parser.add_argument("files", type=_path, nargs="+", metavar="FILE", help="pictures")
    text = "share of normal pixels that a run that finds anomalies may mark (default 0.01)"
    parser.add_argument("--rate", type=_positive(float), help=text)
    text = ".png or .npy file, or folder for several (default: <file>-<run>.png)"
    parser.add_argument("--out", type=_path, help=text)


def evaluate(parser: argparse.ArgumentParser) -> None:
    _run_options(parser)
    parser.add_argument("-n", type=_positive(int), default=10_000, help="samples that are scored (default 10,000)")
    parser.add_argument("--seed", type=_seed, default=0)


def study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="its name (default: list them)")
    parser.add_argument("run", type=_path, nargs="?", help="the run to look at (default: the newest that fits)")
    parser.add_argument("--data", help="the data it looks at, or of the runs it looks at (default: its own)")
    parser.add_argument("--tiny", action="store_true", help="small, in seconds")
    parser.add_argument("--seed", type=_seed, default=0)
    _set_option(parser, "an argument of the study")


def reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a recipe or a study")
    parser.add_argument("--data", help="default: the recipe's; of a study, the data of the runs it looks at")
    parser.add_argument("--seeds", type=_seeds, help="such as 0,1,2 (the default; of a study: 0)")
    parser.add_argument("--preset", default="cpu", help="cpu (default), gpu or tiny")
    parser.add_argument("--threads", type=_positive(int), help="CPU threads (default: as in train)")
    parser.add_argument("--save", action="store_true", help="keep the figures in expected.json")


def list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a recipe or a study: all that is known of it")
    parser.add_argument("--table", action="store_true", help="what is kept of every recipe, as a Markdown table")


def doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="what to check (default: cpu, and cuda where there is a GPU)")


def check_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="a name, or a path: image folder, .npz or .zip file, idx folder, or one picture")
    _data_options(parser, data=False)
    parser.add_argument("--out", type=_path, help="also write a sheet of images there (default: <name>-sheet.png)")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=_path, help="folder of the run")
    parser.add_argument("--device", help="cpu, cuda or cuda-emulated (default: the run's)")


def _data_options(parser: argparse.ArgumentParser, data: bool = True) -> None:
    if data:
        text = "a name (see: tinygen list), or a path to your images (default: the recipe's)"
        parser.add_argument("--data", help=text)
    parser.add_argument("--size", type=_positive(int), help="pixels a side, at least 8 (default: as in the data)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1 grey, 3 colour (default: as in the data)")
    parser.add_argument("--limit", type=_positive(int), help="use at most so many images")
    parser.add_argument("--only", help="train on this class alone")
    parser.add_argument("--without", help="train without this class")
    parser.add_argument("--labels", type=_positive(int), help="keep the labels of so many training images")


def _set_option(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)


def _path(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise argparse.ArgumentTypeError("the name is empty; give a file or folder")
    return Path(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 - 1, it is {text}")
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(_seed(part) for part in text.split(","))


def _positive(kind: type) -> Any:
    def convert(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be {'at least 1' if kind is int else 'above 0'}, it is {text}")
        return value

    convert.__name__ = f"positive {'whole number' if kind is int else 'number'}"  # argparse says: invalid ... value
    return convert
