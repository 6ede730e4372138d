"""How a process computes: float32 unless something else was asked for, and its part of a card."""

import os

import numpy as np
import pytest
import studies_small
import torch

from hpo import arithmetic, evaluation
from hpo.failures import BadStudy
from hpo.recipe import recipe
from hpo.resources import Resources
from hpo.task import Task
from hpo.trial import Proposal

GIB = arithmetic.GIB


@pytest.fixture
def as_before():
    """What a study settles for the whole process is taken back."""
    yield
    arithmetic.settle(study())
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def study(solver="sgd", resources=None, space=None, **training):
    training = {"solver": solver, "steps": 30, "batch_size": 50, **training}
    changes = {} if space is None else {"space": space}
    return studies_small.study(training=training, resources=resources or {}, **changes)


def evaluated(given, derivative=None):
    arm = given.arms()[0]
    plan = evaluation.plan(given, arm, None)
    return evaluation.evaluate(Task(given, arm, plan, Proposal(0, plan.space.defaults(), derivative), None))


@pytest.mark.parametrize("derivative", [None, "drmad"])
def test_bf16_is_near_float32_and_its_weights_are_float32(as_before, derivative):
    plain, low = evaluated(study(), derivative), evaluated(study(precision="bf16"), derivative)
    assert low.failure is None
    assert low.validation_loss == pytest.approx(plain.validation_loss, rel=0.05)
    assert low.validation_loss != plain.validation_loss
    assert {w.dtype for w in low.weights.values()} == {np.dtype("float32")}
    again = evaluated(study(precision="bf16"), derivative)
    assert again.validation_loss == low.validation_loss
    if derivative:
        found, expected = low.hypergradient["l2"], plain.hypergradient["l2"]
        cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine > 0.9


def test_what_is_measured_is_float32(as_before):
    made = recipe(given := study(precision="bf16"), given.arms()[0], None)
    problem, batch = made.problem, made.problem.batches(0)
    outputs = problem.network.forward(problem.weights, batch.inputs)
    exact = problem.criterion(outputs, batch.targets)
    low = made.training.solver.loss(problem.weights, {}, batch)
    assert low.dtype == torch.float32
    assert low != exact
    assert float(low) == pytest.approx(float(exact), rel=0.05)


@pytest.mark.parametrize("solver", ["curveball", "dladmm", "hsic"])
def test_bf16_is_for_solvers_that_only_multiply(as_before, solver):
    with pytest.raises(BadStudy, match=f"training.precision: bf16: {solver} does more with a layer than multiply"):
        evaluated(study(solver, space={"l2": {}}, precision="bf16"))


def test_what_one_study_settles_does_not_stay_for_the_next(as_before):
    card = {"gpus": 1, "cpus": 2}
    arithmetic.settle(study(resources=card, precision="tf32", deterministic=True))
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    arithmetic.settle(study())
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


def test_a_deterministic_training_is_the_same_on_the_cpu(as_before):
    assert evaluated(study(deterministic=True)).validation_loss == evaluated(study()).validation_loss


@pytest.mark.parametrize(
    ("given", "alone", "expected"),
    [
        ({"gpus": 0.25}, False, 0.25),
        ({"gpus": 0.25}, True, 1.0),
        ({"gpus": 2}, False, 1.0),
        ({"gpus": 0.25, "gpu_memory": 8}, False, 0.1),
        ({"gpus": 1, "gpu_memory": 800}, False, 1.0),
    ],
)
def test_the_part_of_a_card(given, alone, expected):
    assert arithmetic.part(Resources.model_validate(given), 80 * GIB, alone) == pytest.approx(expected)


def test_out_of_memory_in_a_few_words():
    said = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.20 GiB is "
        "free. Process 7 has 77.95 GiB memory in use."
    )
    assert arithmetic.short(torch.OutOfMemoryError(said)) == "asked for 2.00 GiB"
    assert arithmetic.short(torch.OutOfMemoryError("CUDA out of memory. No figures")) == "CUDA out of memory"
    failed = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert arithmetic.short(failed) == str(failed)
    assert arithmetic.short(RuntimeError("DefaultCPUAllocator: can't allocate memory")) is None


@pytest.mark.gpu
def test_a_process_may_not_take_more_than_its_part():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    total = torch.cuda.get_device_properties(0).total_memory
    arithmetic.limit(Resources.model_validate({"gpus": 0.25, "gpu_memory": 1}), alone=False)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2 * GIB, dtype=torch.uint8, device="cuda")
    assert f"of {total / GIB:.1f} GiB in use" in str(arithmetic.short(caught.value))
    arithmetic.limit(Resources.model_validate({"gpus": 0.25, "gpu_memory": 1}), alone=True)
    assert len(torch.empty(2 * GIB, dtype=torch.uint8, device="cuda")) == 2 * GIB
