"""What a study file may say about cores, cards, memory and precision."""

import pytest
import studies_small

from hpo import spec, study_file
from hpo.failures import BadStudy


def parsed(**parts):
    """The small study with more in some of its parts."""
    content = study_file.parse(studies_small.SMALL).canonical()
    content["resources"] = {}
    for part, more in parts.items():
        content[part] |= more
    return study_file.parse(study_file.yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("given", "on", "gpus"),
    [
        ({}, "cpu", 0),
        ({"device": "cpu"}, "cpu", 0),
        ({"device": "cpu", "gpus": 0}, "cpu", 0),
        ({"device": "cuda"}, "cuda", 1),
        ({"device": "cuda", "gpus": 0.25}, "cuda", 0.25),
        ({"gpus": 0.25, "gpu_memory": 10}, "cuda", 0.25),
        ({"gpus": 2}, "cuda", 2),
    ],
)
def test_a_card_is_used_when_one_is_asked_for(given, on, gpus):
    study = parsed(resources=given)
    assert (study.resources.on, study.resources.gpus) == (on, gpus)
    assert spec.Study.model_validate(study.canonical()) == study


FAULTS = [
    ({"resources": {"threads": 2}}, "resources.threads: unknown key 'threads': use one of checkpoint, cpus, device"),
    ({"resources": {"cpus": 0}}, "resources.cpus: .*greater than or equal to 1, not 0"),
    ({"resources": {"device": "gpu"}}, "resources.device: .*'auto', 'cpu' or 'cuda', not 'gpu'"),
    ({"resources": {"device": "cpu", "gpus": 1}}, "resources: device: cpu with gpus: 1: leave one of the two out"),
    ({"resources": {"device": "cuda", "gpus": 0}}, "resources: device: cuda with gpus: 0: leave one of the two out"),
    ({"resources": {"gpus": 1.5}}, "resources.gpus: 1.5 is neither a share of one card .* nor a number of whole ones"),
    ({"resources": {"gpus": -0.5}}, "resources.gpus: .*greater than or equal to 0, not -0.5"),
    ({"resources": {"gpu_memory": 4}}, "resources: gpu_memory: 4 without a GPU: give gpus"),
    ({"resources": {"gpus": 1, "gpu_memory": 0}}, "resources.gpu_memory: .*greater than 0, not 0"),
    ({"training": {"precision": "fp16"}}, "training.precision: .*'float32', 'tf32' or 'bf16', not 'fp16'"),
    ({"training": {"precision": "tf32"}}, "training.precision: tf32 is a mode of NVIDIA cards: give resources.gpus"),
    ({"training": {"deterministic": 1}}, "training.deterministic: .*boolean, not 1"),
]


@pytest.mark.parametrize(("given", "message"), FAULTS)
def test_every_fault_is_one_line(given, message):
    with pytest.raises(BadStudy, match=message) as caught:
        parsed(**given)
    assert "\n" not in str(caught.value)


def test_where_a_study_runs_may_change_and_how_it_computes_may_not():
    study = parsed()
    assert parsed(resources={"cpus": 2, "gpus": 0.5, "gpu_memory": 8}).identity() == study.identity()
    for more in ({"precision": "bf16"}, {"deterministic": True}):
        assert parsed(training=more).identity() != study.identity()
    assert parsed(training={"precision": "tf32"}, resources={"gpus": 1}).identity() != study.identity()
