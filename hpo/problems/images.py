"""Image data sets kept in files: MNIST and Fashion-MNIST as idx, CIFAR-10 as npz.

The idx format (LeCun): two zero bytes, a type (8 = uint8), the number of axes d, d sizes as big-endian 32-bit
integers, then the values in C order.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpo.failures import BadData
from hpo.problems.arrays import read_npz, scaled
from hpo.problems.dataset import Folders, Part, Records
from hpo.problems.folders import find

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class MNIST:
    """Handwritten digits: 60,000 + 10,000 images 28×28 (LeCun et al. 1998); the idx files in `MNIST/raw`."""

    def read(self, folders: Folders) -> Records:
        return _idx_folder("mnist", "MNIST/raw", folders, ())


class FashionMNIST:
    """Clothes: 60,000 + 10,000 images 28×28 (Xiao, Rasul, Vollgraf 2017); the idx files in `FashionMNIST/raw`."""

    def read(self, folders: Folders) -> Records:
        return _idx_folder("fashion-mnist", "FashionMNIST/raw", folders, GARMENTS)


class CIFAR10:
    """Small colour photographs, 3×32×32, ten classes (Krizhevsky 2009); any `cifar10*.npz`."""

    def read(self, folders: Folders) -> Records:
        found = read_npz(find("cifar10", ["cifar10.npz", "cifar10*.npz"], folders))
        return found._replace(name="cifar10")


def _idx_folder(name: str, folder: str, folders: Folders, names: tuple[str, ...]) -> Records:
    def part(prefix: str) -> Part:
        images, labels = (
            read_idx(find(name, [f"{folder}/{prefix}-{file}.gz", f"{folder}/{prefix}-{file}"], folders))
            for file in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        return Part(images[:, None], labels)

    return Records(name, part("train"), scaled(255.0), part("t10k"), names)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, plain or gzipped. Raises BadData if it is not one or is cut short."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path}: cannot be read ({error}): fetch it again") from error
    header = 4 + 4 * content[3] if len(content) > 3 else 4
    if content[:3] != b"\x00\x00\x08" or len(content) < header:
        raise BadData(f"{path}: not an idx file of unsigned bytes (it begins with {content[:4].hex()}): fetch it again")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    values = np.frombuffer(content, np.uint8)[header:]
    if values.size != np.prod(shape, dtype=np.int64):
        raise BadData(f"{path}: {values.size} values where its header says {shape}: the file is cut, fetch it again")
    return values.reshape(shape)
