"""The tying of ten tasks, small and in float64: its two ends, its derivative, its drawings."""

import struct
import zipfile
import zlib
from itertools import accumulate

import pytest
import torch

from hpo.hypergradients.training import train
from solvers.solver import Batch
from studies.papers import omniglot_tying as tying

CHARACTERS = (2, 3, 1, 2, 1) * 2
NETWORKS = tying.Networks((4, 3, 3, 5), CHARACTERS)
Z = {name: 4 * z.double() for name, z in NETWORKS.drawn(torch.Generator().manual_seed(0)).items()}


def rows(seed, each):
    generator = torch.Generator().manual_seed(seed)
    count = each * sum(CHARACTERS)
    inputs = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return Batch(0, inputs, torch.randint(5, (count,), generator=generator))


def blend(*strengths):
    held = {name: torch.tensor(value, dtype=torch.float64) for name, value in tying.HELD.items()}
    return {**{name: x.double() for name, x in tying.blend(*strengths).items()}, **held}


def uneven():
    generator = torch.Generator().manual_seed(5)
    return {
        name: x + 0.2 * torch.randn(x.shape, generator=generator, dtype=x.dtype) if x.dim() else x
        for name, x in blend(0.3, 0.5, 0.7).items()
    }


def training(hyper, steps=8):
    return NETWORKS.training(hyper, rows(1, each=4), rows(2, each=2), steps)


def test_without_tying_each_task_is_trained_alone_by_the_papers_rule():
    hyper = blend(0, 0, 0)
    together = train(training(hyper), Z, hyper).weights
    part, ends = rows(1, each=4), [4 * n for n in accumulate(CHARACTERS)]
    for task, count in enumerate(CHARACTERS):
        alone = tying.Networks(NETWORKS.sizes, (count,))
        mine = slice(ends[task] - 4 * count, ends[task])
        z, v = {name: x[[task]] for name, x in Z.items()}, dict.fromkeys(Z, 0.0)
        for _ in range(8):
            points = {name: x.requires_grad_() for name, x in z.items()}
            loss = alone.loss(alone.forward(points, part.inputs[mine]), part.targets[mine])
            loss = loss + torch.tensor(-4.0).double().exp() * sum(x.square().sum() for x in points.values())
            slopes = dict(zip(points, torch.autograd.grad(loss, list(points.values())), strict=True))
            v = {name: 0.9 * v[name] - 0.1 * slope for name, slope in slopes.items()}
            z = {name: (x + v[name]).detach() for name, x in points.items()}
        for name, x in z.items():
            torch.testing.assert_close(together[name][[task]], x)


def test_all_entries_alike_make_one_network_of_ten():
    hyper = blend(1, 1, 1)
    for name, w in tying.tied(train(training(hyper), Z, hyper).weights, hyper).items():
        torch.testing.assert_close(w, w[:1].expand_as(w))
        assert not torch.allclose(w[0], Z[name].mean(dim=0), atol=1e-3)


@pytest.mark.parametrize("name", ["tying.0", "tying.1", "tying.2"])
def test_the_derivative_is_that_of_the_validation_loss(name):
    hyper = uneven()
    direction = torch.randn(10, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(h):
        moved = {**hyper, name: hyper[name] + h * direction}
        inner = training(moved)
        return inner.validation_loss(train(inner, Z, moved).weights)

    difference = (8 * (loss(1e-4) - loss(-1e-4)) - (loss(2e-4) - loss(-2e-4))) / 12e-4
    found = tying.derivative(NETWORKS, training(hyper), Z, hyper, "exact")
    assert set(found) == {"tying.0", "tying.1", "tying.2"}
    assert (found[name] * direction).sum().item() == pytest.approx(difference.item(), rel=1e-7)


def test_every_method_gives_a_derivative_and_short_ones_agree():
    """Ten steps back are the whole of a training of eight."""
    hyper = uneven()
    found = {
        method: torch.cat([x.flatten() for x in tying.derivative(NETWORKS, training(hyper), Z, hyper, method).values()])
        for method in (*tying.METHODS, "direct")
    }
    torch.testing.assert_close(found["truncated"], found["exact"])
    for method in ("chord", "implicit", "direct"):
        assert found[method].isfinite().all()
        assert not torch.allclose(found[method], found["exact"], rtol=0.01)


def test_what_a_descent_follows():
    slopes = {name: x for name, x in uneven().items() if x.dim()}
    diagonal = tying.allowed("diagonal", slopes)
    strength = tying.allowed("strength", slopes)
    way = {name: torch.full((10, 10), 0.1, dtype=torch.float64) - torch.eye(10) for name in slopes}
    share = {name: strength[name][0, 1] / way[name][0, 1] for name in slopes}
    for name, x in slopes.items():
        torch.testing.assert_close(diagonal[name], x * torch.eye(10))
        torch.testing.assert_close(strength[name], share["tying.0"] * way[name])
        assert tying.allowed("matrices", slopes)[name] is x
    left = sum(((slopes[name] - strength[name]) * way[name]).sum() for name in slopes)
    assert left.item() == pytest.approx(0, abs=1e-12)


def test_likeness_tells_turned_copies_from_the_others():
    copies = torch.eye(10) + 0.5 * torch.eye(10).roll(5, dims=0)
    assert tying.likeness({f"tying.{i}": copies for i in range(3)}) == ", ".join(["0.80/0.00/0.00"] * 3)


def png(ink):
    """One bit a pixel, rows unfiltered; 0 is ink."""
    bits = torch.ones(105, 112, dtype=torch.uint8)
    bits[:, :105] -= ink
    packed = (bits.reshape(105, 14, 8) * 2 ** torch.arange(7, -1, -1)).sum(dim=2)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in packed.tolist()))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 105, 105, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I4s", len(x), kind) + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks
    )


def test_drawings_are_read_shrunk_and_turned(tmp_path):
    ink = torch.zeros(105, 105, dtype=torch.uint8)
    ink[:15, :30] = 1  # of 7 × 7 cells: the first two of the first row
    blank = torch.zeros_like(ink)
    with zipfile.ZipFile(tmp_path / "o.zip", "w") as file:
        for alphabet in range(6):
            for character in range(1 + (alphabet == 0)):
                for number in range(1, 17):
                    name = f"images_background/A{alphabet}/character{character:02d}/1_{number:02d}.png"
                    file.writestr(name, png(ink if (alphabet, character) == (0, 0) else blank))
    images, characters = tying.read(tmp_path / "o.zip", side=7)
    assert characters == (2, 1, 1, 1, 1) * 2
    assert images.shape == (12, 15, 49)
    torch.testing.assert_close(images.mean(dim=(0, 1)), torch.zeros(49))
    inked = (images - images[1]).reshape(12, 15, 7, 7)
    assert inked[0, 0].nonzero().tolist() == [[0, 0], [0, 1]]
    assert inked[6, 0].nonzero().tolist() == [[5, 0], [6, 0]]
    assert inked[[1, 2, 7, 11]].count_nonzero() == 0


def test_every_drawing_is_in_one_part():
    images = torch.arange(6 * 15.0).reshape(6, 15, 1)
    first, others = tying.partition(images, 12, torch.Generator().manual_seed(0))
    assert first.shape == (6, 12, 1)
    torch.testing.assert_close(torch.cat([first, others], dim=1).sort(dim=1).values, images)
    assert not torch.equal(first, images[:, :12])


def test_a_character_and_its_turned_copy_share_a_label():
    found = tying.labels(CHARACTERS, torch.Generator().manual_seed(0)).split(CHARACTERS)
    for task, classes in enumerate(found):
        assert len(set(classes.tolist())) == CHARACTERS[task]
        assert torch.equal(classes, found[task % 5])
