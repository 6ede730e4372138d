from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from hpo.failures import BadData, BadStudy
from hpo.problems.sources import load


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def idx_folder(folder: Path, gzipped: bool) -> dict[str, np.ndarray]:
    """The four files of MNIST, five and three images of 2×3 pixels."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": random.integers(0, 256, (5, 2, 3)),
        "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5]),
        "t10k-images-idx3-ubyte": random.integers(0, 256, (3, 2, 3)),
        "t10k-labels-idx1-ubyte": np.array([1, 5, 9]),
    }
    for name, array in arrays.items():
        path, content = folder / name, idx(array)
        path.with_name(f"{name}.gz" if gzipped else name).write_bytes(gzip.compress(content) if gzipped else content)
    return arrays


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize(("data", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
def test_idx_folders(here, data, folder, gzipped):
    arrays = idx_folder(here / "elsewhere" / folder, gzipped)
    found = load(data, Path("elsewhere"))
    assert found.test is not None
    pixels = found.prepare(found.rows.inputs)(found.test.inputs)
    assert pixels.shape == (3, 1, 2, 3)
    assert pixels.dtype == np.float32
    assert np.allclose(pixels[:, 0] * 255, arrays["t10k-images-idx3-ubyte"])
    assert [found.classes[i] for i in found.test.targets] == (
        ["1", "5", "9"] if data == "mnist" else ["Trouser", "Sandal", "Ankle boot"]
    )
    assert found.rows.targets.shape == (5,)


def test_the_current_folder_comes_before_the_data_folder(here):
    for folder, shift in ((here, 0), (here / "data", 7)):
        folder.mkdir(exist_ok=True)
        np.savez(folder / "a.npz", x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]) + shift)
    assert load("a.npz", here / "data").classes == ("0", "1")
    (here / "b.npz").symlink_to(here / "data" / "a.npz")
    assert load(str(here / "data" / "a.npz")).classes == ("7", "8")


def test_a_missing_file_says_where_it_was_looked_for_and_how_to_get_it(here):
    for data, expected in [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz or MNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", r"cifar10.npz or cifar10\*.npz"),
        ("some/table.csv", "some/table.csv"),
    ]:
        with pytest.raises(BadData, match=f"{data}: no {expected} in {here}, {here}/d: .*--data-dir DIR or HPO_DATA"):
            load(data, Path("d"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"not an idx file of unsigned bytes \(it begins with \)"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01....", "not an idx file of unsigned bytes"),
        (idx(np.zeros((5, 2, 3)))[:-1], r"29 values where its header says \[5, 2, 3\]: the file is cut"),
        (b"\x00\x00\x08\x03\x00\x00", "not an idx file of unsigned bytes"),
    ],
)
def test_idx_files_that_are_none(here, content, said):
    idx_folder(here / "MNIST/raw", gzipped=False)
    (here / "MNIST/raw/train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(BadData, match=said):
        load("mnist")


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"0" * 99, mtime=0)[:-9]], ids=["other", "cut"])
def test_gzip_files_that_are_none(here, content):
    idx_folder(here / "MNIST/raw", gzipped=True)
    (here / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(BadData, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        load("mnist")


@pytest.mark.parametrize(
    ("shape", "dtype", "prepared"),
    [
        ((6, 4, 5), "uint8", (6, 1, 4, 5)),
        ((6, 4, 5, 3), "uint8", (6, 3, 4, 5)),
        ((6, 4, 5, 1), "uint8", (6, 1, 4, 5)),
        ((6, 3, 4, 5), "uint8", (6, 3, 4, 5)),
        ((6, 20), "uint8", (6, 20)),
        ((6, 3, 4, 5), "float64", (6, 3, 4, 5)),
        ((6, 4, 3), "int64", (6, 4, 3)),
    ],
)
def test_npz_inputs_by_their_type(here, shape, dtype, prepared):
    x = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    np.savez(here / "a.npz", x_train=x, y_train=np.arange(6) % 2, x_test=x[:2], y_test=np.arange(2))
    found = load("a.npz")
    assert found.test is not None
    inputs = found.prepare(found.rows.inputs)(found.rows.inputs)
    assert inputs.shape == prepared
    assert inputs.dtype == np.float32
    channels_first = np.moveaxis(x, -1, 1) if inputs.ndim == 4 and prepared != shape and len(shape) == 4 else x
    assert np.allclose(inputs.reshape(6, -1) * (255 if dtype == "uint8" else 1), channels_first.reshape(6, -1))


def test_npz_tables_are_standardised_on_the_rows_given(here):
    x = np.random.default_rng(1).normal(5.0, 3.0, (50, 3))
    x[:, 2] = 4.0
    np.savez(here / "a.npz", x=x, y=np.arange(50) % 2)
    prepared = load("a.npz").prepare(x[:20])
    assert np.allclose(prepared(x[:20])[:, :2].mean(axis=0), 0, atol=1e-6)
    assert np.allclose(prepared(x[:20])[:, :2].std(axis=0), 1, atol=1e-6)
    assert np.allclose(prepared(x)[:, :2], (x - x[:20].mean(0))[:, :2] / x[:20].std(0)[:2], atol=1e-5)
    assert not prepared(x)[:, 2].any()
    np.savez(here / "b.npz", x=x[:, 0], y=np.arange(50) % 2)
    assert load("b.npz").rows.inputs.shape == (50, 1)


def test_cifar10_takes_any_file_of_that_name_and_its_class_names(here):
    x = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    y = np.array([0, 1, 0, 1])
    np.savez(here / "cifar10_small.npz", x_train=x, y_train=y, class_names=np.array(["airplane", "automobile"]))
    found = load("cifar10")
    assert found.name == "cifar10"
    assert found.classes == ("airplane", "automobile")
    assert found.rows.inputs.shape == (4, 3, 32, 32)


x, y = np.ones((4, 3)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"images": x, "y": y}, "has images, y: give x_train and y_train"),
        ({}, "has nothing: give x_train"),
        ({"x_train": x, "y_train": y, "x_test": x}, "has only one of x_test and y_test"),
        ({"x_train": x, "y_train": y, "x_test": x[:, :2], "y_test": y}, "x_train are 3 numbers and rows of x_test 2 n"),
        ({"x": x.astype(np.uint8), "y": y, "x_test": x, "y_test": y}, "of x are 3 bytes and rows of x_test 3 numbers"),
        ({"x": np.where(np.eye(4, 3) > 0, np.nan, x), "y": y}, "x has 3 values that are NaN or infinite"),
        ({"x": x, "y": y, "x_test": x * np.inf, "y_test": y}, "x_test has 12 values that are NaN or infinite"),
        ({"x": np.full((4, 3), "a"), "y": y}, r"x is <U1 of shape \(4, 3\): give numbers"),
        ({"x": x[:, :0], "y": y}, r"x is float64 of shape \(4, 0\): give numbers"),
        ({"x": x[:3], "y": y}, "3 rows of inputs and 4 targets"),
        ({"x": x.astype(object), "y": y}, "cannot be read as .npz .*allow_pickle"),
    ],
)
def test_npz_files_that_cannot_be_used(here, content, said):
    np.savez(here / "a.npz", **content)
    with pytest.raises(BadData, match=said) as caught:
        load("a.npz")
    assert "a.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz(here):
    (here / "a.npz").write_bytes(b"hello")
    np.save(here / "b", x)
    (here / "b.npy").rename(here / "b.npz")
    np.savez_compressed(here / "c.npz", x=np.random.default_rng(0).normal(size=(99, 9)), y=np.arange(99) % 2)
    whole = (here / "c.npz").read_bytes()
    (here / "c.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("a.npz", "b.npz", "c.npz"):
        with pytest.raises(BadData, match=rf"{name}: cannot be read as \.npz .*numpy\.savez"):
            load(name)


@pytest.mark.parametrize(
    ("data", "rows", "features", "task", "outputs"),
    [
        ("digits", 1797, (1, 8, 8), "classification", 10),
        ("breast-cancer", 569, (30,), "classification", 2),
        ("wine", 178, (13,), "classification", 3),
        ("diabetes", 442, (10,), "regression", 1),
    ],
)
def test_bundled_sets(data, rows, features, task, outputs):
    found = load(data)
    inputs = found.prepare(found.rows.inputs)(found.rows.inputs)
    assert (inputs.shape, found.task, found.outputs, found.test) == ((rows, *features), task, outputs, None)
    assert inputs.dtype == np.float32
    if data == "digits":
        assert (inputs.min(), inputs.max()) == (0.0, 1.0)
    else:
        assert np.allclose(inputs.mean(axis=0), 0, atol=1e-5)


def test_a_data_set_is_read_once(here):
    np.savez(here / "a.npz", x=x, y=y)
    assert load("a.npz") is load("a.npz")
    assert load("a.npz", task="regression") is not load("a.npz")


def test_a_function_of_the_users(own):
    name = own(
        """
        import numpy as np, pandas as pd
        def pair(): return [[0.0, 1.0], [2.0, 3.0], [1.0, 1.0]], ["no", "yes", "no"]
        def named(): return {"x_train": np.ones((3, 2)), "y_train": [0, 1, 0], "x_test": np.ones((1, 2)), "y_test": [1]}
        def table(): return pd.DataFrame({"a": [1.0, None, 2.0], "b": ["u", "v", None]}), [0.5, 1.5, 2.5]
        def number(): return 7
        def ragged(): return [[1.0], [2.0, 3.0]], [0, 1]
        def broken(): raise OSError("disk\\non fire")
        """
    )
    assert load(f"{name}:pair").classes == ("no", "yes")
    named = load(f"{name}:named")
    assert named.test is not None
    assert named.test.targets.tolist() == [1]
    table = load(f"{name}:table")
    prepared = table.prepare(table.rows.inputs)(table.rows.inputs)
    assert np.allclose(prepared, [[-(1.5**0.5), 1, 0], [0, 0, 1], [1.5**0.5, 1, 0]])
    with pytest.raises(BadData, match=rf"problem.data: {name}:number returned int: return \(inputs, targets\)"):
        load(f"{name}:number")
    with pytest.raises(BadData, match=f"{name}:ragged returned x that is not an array"):
        load(f"{name}:ragged")
    with pytest.raises(BadStudy, match=rf"problem.data: {name}:broken\(\) fails: OSError: disk on fire: correct it"):
        load(f"{name}:broken")


def test_import_paths_that_lead_nowhere(own):
    name = own("def good(): pass\nnumber = 7")
    for path, said in [
        ("nowhere_at_all:f", "problem.data: no module 'nowhere_at_all' for 'nowhere_at_all:f': give package.module:f"),
        (f"{name}.inner:f", f"no module '{name}.inner'"),
        (f"{name}:goo", f"unknown function of {name} 'goo': use one of good; did you mean 'good'?"),
        (f"{name}:number", f"unknown function of {name} 'number'"),
        (f"{own('import nothing_like_it')}:f", r"no module 'own_\d+' \(No module named 'nothing_like_it'\)"),
        (f"{own('1 / 0')}:f", r"importing 'own_\d+' fails: ZeroDivisionError: division by zero"),
    ]:
        with pytest.raises(BadStudy, match=said):
            load(path)


@pytest.mark.parametrize(
    ("data", "rows", "test"),
    [("mnist", 60_000, 10_000), ("fashion-mnist", None, 10_000), ("cifar10", None, None)],
)
def test_real_images(real, data, rows, test):
    found = load(data, real)
    assert found.test is not None
    assert len(found.classes) == 10
    assert rows in (None, len(found.rows.targets))
    assert test in (None, len(found.test.targets))
    if data == "mnist":
        assert np.bincount(found.rows.targets)[:3].tolist() == [5923, 6742, 5958]
        assert (np.asarray(found.rows.inputs).max(axis=0) == 0).sum() == 67
