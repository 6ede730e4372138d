"""A method's options are its constructor's keyword-only arguments."""

import pytest

from hpo import options
from hpo.failures import BadStudy


class Method:
    def __init__(self, space: int, *, rate: float = 0.3, kind: str = "a") -> None:
        self.rate, self.kind = rate, kind


def test_values_are_converted_to_the_annotated_types():
    assert options.names(Method) == {"rate", "kind"}
    assert options.checked(Method, {"rate": 1}, "methods.m") == {"rate": 1.0}


def test_unknown_names_and_wrong_types_are_named():
    with pytest.raises(
        BadStudy, match=r"methods\.m\.rte: unknown option 'rte': use one of kind, rate; did you mean 'rate'"
    ):
        options.checked(Method, {"rte": 1}, "methods.m")
    with pytest.raises(BadStudy, match=r"methods\.m\.space: unknown option"):
        options.checked(Method, {"space": 1}, "methods.m")
    with pytest.raises(BadStudy, match=r"methods\.m\.rate: .*number.*not 'fast'"):
        options.checked(Method, {"rate": "fast"}, "methods.m")
    with pytest.raises(BadStudy, match="use one of extra, kind, rate"):
        options.checked(Method, {"rte": 1}, "methods.m", also=["extra"])
