from __future__ import annotations

import email
import gzip
import hashlib
import io
import json
import urllib.request
import urllib.response
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

import numpy as np
import pytest

from hpo.failures import BadData
from hpo.problems.dataset import chosen
from hpo.problems.sources import load

MIXED = """age,colour,member,target
1,red,True,yes
2,,False,no
?,green,True,yes
4,red,,no
100,blue,True,yes
"""


def test_a_mixed_table_is_prepared_by_its_training_rows_alone(here):
    (here / "mixed.csv").write_text(MIXED)
    found = load("mixed.csv")
    assert found.classes == ("no", "yes")
    prepared = found.prepare(chosen(found.rows.inputs, np.arange(4)))(found.rows.inputs)
    # ages 1, 2, median 2, 4; red, the most frequent (red), green, red; True, False, True, the most frequent (True)
    ages = np.array([1, 2, 2, 4])
    assert prepared[:, 0] == pytest.approx((np.array([1, 2, 2, 4, 100]) - ages.mean()) / ages.std(), abs=1e-4)
    assert prepared[:, 1:].tolist() == [
        [0, 1, 0, 1],
        [0, 1, 1, 0],
        [1, 0, 0, 1],
        [0, 1, 0, 1],
        [0, 0, 0, 1],  # blue is not in the training rows
    ]
    assert prepared.dtype == np.float32


def test_gzipped_and_with_the_target_anywhere(here):
    (here / "a.csv.gz").write_bytes(gzip.compress(b"target,a\n1.5,2\n2.5,3\n"))
    found = load("a.csv.gz")
    assert found.task == "regression"
    assert found.rows.targets.tolist() == [[1.5], [2.5]]


def test_columns_without_a_value_in_the_training_rows_keep_their_place(here):
    (here / "a.csv").write_text("n,c,target\n,,0\n,,1\n5,x,0\n")
    found = load("a.csv")
    prepared = found.prepare(chosen(found.rows.inputs, np.arange(2)))(found.rows.inputs)
    assert np.isfinite(prepared).all()
    assert not np.ptp(prepared[:2], axis=0).any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "unknown column 'target': use one of a, b; rename the column to learn to 'target'"),
        ("a,Target\n1,2\n", "did you mean 'Target'"),
        ("target\n1\n2\n", "no column besides 'target'"),
        ("a,target\n", "0 rows of inputs and 0 targets"),
        ("", "cannot be read as CSV"),
        ('a,target\n"1,2\n3,4\n', "cannot be read as CSV"),
        ("a,target\n1,2\n3,4,5,6\n7,8\n", "cannot be read as CSV"),
        ("a,target\n1,x\n2,x\n", "all 2 rows are of class 'x'"),
        ("a,target\n1,x\n2,\n3,y\n", "the target is missing in 1 of 3 rows, first in row 2"),
        ("a,target\n1,1.5\n2,\n3,2.5\n", "the target is missing in 1 of 3 rows, first in row 2"),
        ("a,target,target\n1,x,x\n2,y,y\n", "two columns are called 'target': rename or remove one"),
        ("a, a,target\n1,2,x\n2,3,y\n", "two columns are called 'a'"),
        ("a;target\n1,5;2\n", "its header 'a;target' has semicolons: save it with commas"),
        ('a,target\n"1,5",x\n"-2,25",y\n,x\n', "column 'a' has numbers with decimal commas .1,5.: save it with points"),
        ('a,target\n1,"1,5"\n2,"2,5"\n', "column 'target' has numbers with decimal commas"),
        ("a,target\ninf,x\n2,y\n", "column 'a' has infinite numbers"),
        ("a,target\n" + "".join(f"n{i},{i % 2}\n" for i in range(1001)), "column 'a' has 1001 different texts"),
    ],
)
def test_tables_that_cannot_be_used(here, text, said):
    (here / "a.csv").write_text(text)
    with pytest.raises(BadData, match=said) as caught:
        load("a.csv")
    assert "a.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_csv(here):
    (here / "a.csv").write_bytes(b"a,target\n\xff\xfe,1\n")
    (here / "b.csv.gz").write_bytes(b"a,target\n1,2\n")
    (here / "c.csv.gz").write_bytes(gzip.compress(b"a,target\n" + b"1,2\n" * 999)[:-12])
    for name in ("a.csv", "b.csv.gz", "c.csv.gz"):
        with pytest.raises(BadData, match=f"{name}: cannot be read as CSV"):
            load(name)
    with pytest.raises(BadData, match="it is not UTF-8 .*: save it as UTF-8"):
        load("a.csv")


def test_spaces_around_the_names_of_columns(here):
    (here / "a.csv").write_text('\ufeff job , age, target\n"1,5 m",1,0\nclerk,2,1\n', encoding="utf-8")
    found = load("a.csv").rows.inputs
    assert not isinstance(found, np.ndarray)
    assert list(found.columns) == ["job", "age"]


def test_prepared_columns_have_names(here):
    (here / "a.csv").write_text("b,job,gap,age,target\nu,clerk,,1,0\nv,smith,,?,1\nu,,,3,0\n")
    found = load("a.csv").rows.inputs
    prepared = load("a.csv").prepare(found)
    assert prepared.columns == ("gap", "age", "b=u", "b=v", "job=clerk", "job=smith")
    assert prepared(found).shape == (3, len(prepared.columns))
    assert load("a.csv").prepare(found[["age"]]).columns == ("age",)
    assert load("a.csv").prepare(found[["job"]]).columns == ("job=clerk", "job=smith")


class OpenML(urllib.request.BaseHandler):
    """What openml.org answers, for one small data set called `tiny` and one without a target called `aimless`."""

    handler_order = 100
    arff = b"@relation tiny\n@attribute a numeric\n@attribute b {u,v}\n@attribute class {p,n}\n@data\n" + (
        b"1,u,p\n2,v,n\n?,u,p\n4,?,n\n"
    )
    columns = (("a", []), ("b", ["u", "v"]), ("class", ["p", "n"]))

    def __init__(self) -> None:
        self.asked: list[str] = []

    def https_open(self, request: urllib.request.Request) -> urllib.response.addinfourl:
        url = request.full_url
        self.asked.append(url)
        headers = email.message_from_string("")
        if "data_name" in url and "/tiny/" not in url and "/aimless/" not in url:
            raise HTTPError(url, 412, "no results", headers, io.BytesIO(b"{}"))
        response = urllib.response.addinfourl(io.BytesIO(self.answer(url)), headers, url, 200)
        response.msg = "OK"
        return response

    def answer(self, url: str) -> bytes:
        number = 8 if "aimless" in url or url.endswith("/8") else 7
        if url.endswith(".arff"):
            return self.arff
        if "data_name" in url:
            return json.dumps({"data": {"dataset": [{"did": number, "version": 1, "status": "active"}]}}).encode()
        if "features" in url:
            features = [
                {"index": str(i), "name": name, "data_type": "nominal" if values else "numeric",
                 "nominal_value": values, "is_target": str(name == "class" and number == 7).lower(),
                 "is_ignore": "false", "is_row_identifier": "false",
                 "number_of_missing_values": "0" if name == "class" else "1"}
                for i, (name, values) in enumerate(self.columns)
            ]  # fmt: skip
            return json.dumps({"data_features": {"feature": features}}).encode()
        if "qualities" in url:
            return json.dumps({"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": "4.0"}]}}).encode()
        return json.dumps({"data_set_description": {
            "id": str(number), "name": "tiny", "version": "1", "status": "active", "format": "ARFF", "file_id": "9",
            "description": "", "url": "https://www.openml.org/data/v1/download/9/tiny.arff",
            "md5_checksum": hashlib.md5(self.arff).hexdigest(),
        }}).encode()  # fmt: skip


class Unplugged(urllib.request.BaseHandler):
    handler_order = 100

    def https_open(self, request: urllib.request.Request) -> None:
        raise URLError(f"no route to {request.host}")


def plug(handler: urllib.request.BaseHandler) -> None:
    urllib.request.install_opener(urllib.request.build_opener(handler))


@pytest.fixture
def network() -> Iterator[None]:
    """Whatever network a test plugs in is unplugged after it."""
    yield
    urllib.request._opener = None  # pyright: ignore - install_opener(None) would be typed wrongly


def test_openml_is_fetched_once_and_kept(here, network):
    site = OpenML()
    plug(site)
    found = load("openml:tiny", Path("data"))
    assert site.asked
    assert found.classes == ("n", "p")
    assert found.rows.targets.tolist() == [1, 0, 1, 0]
    prepared = found.prepare(found.rows.inputs)(found.rows.inputs)
    assert prepared.shape == (4, 3)
    assert prepared[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    plug(Unplugged())
    assert load("openml:tiny", Path("data"), "classification").classes == ("n", "p")


def test_openml_without_a_network(here, network):
    plug(Unplugged())
    with pytest.raises(BadData, match=r"openml:tiny: openml.org cannot be reached \(no route.*under .*/data: connect"):
        load("openml:tiny", Path("data"))


def test_openml_names_that_do_not_exist(here, network):
    plug(OpenML())
    with pytest.raises(BadData, match=r"openml:nothing: cannot be fetched .*No active dataset nothing found"):
        load("openml:nothing", Path("data"))


def test_openml_sets_without_a_target(here, network):
    plug(OpenML())
    with pytest.raises(BadData, match="openml:aimless: OpenML names no target column"):
        load("openml:aimless", Path("data"))


@pytest.mark.parametrize(
    ("name", "rows", "task", "outputs", "features"),
    [
        ("adult", 48_842, "classification", 2, 105),
        ("california_housing", 20_640, "regression", 1, 13),
        ("credit_g", 1_000, "classification", 2, 61),
        ("phoneme", 5_404, "classification", 2, 5),
        ("kr_vs_kp", 3_196, "classification", 2, 73),
    ],
)
def test_real_tables(real, name, rows, task, outputs, features):
    found = load(f"tabular/{name}.csv.gz", real)
    assert (len(found.rows.targets), found.task, found.outputs) == (rows, task, outputs)
    prepared = found.prepare(found.rows.inputs)
    inputs = prepared(found.rows.inputs)
    assert inputs.shape == (rows, features)
    assert prepared.columns is not None
    assert len(set(prepared.columns)) == features
    assert np.isfinite(inputs).all()
