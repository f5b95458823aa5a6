"""The MRI operator: adjoint, round trip, an independent implementation, masks, coils, data consistency."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.common.errors import StudyError
from lib.imaging import mri

SHAPES = [(32, 32), (33, 28), (24, 31)]


def noise(*shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape)))


def case(coils: int, shape: tuple[int, int], dtype: torch.dtype, images: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps, and a mask of its own for each image."""
    maps = mri.coil_maps(coils, shape, seed=4).to(dtype)
    masks = [mri.sampling_mask("random", shape[1], acceleration=3, seed=(1, item)) for item in range(images)]
    return maps, torch.stack(masks)


@pytest.mark.parametrize("shape", SHAPES)
def test_transform_is_numpys(shape: tuple[int, int]):
    image = noise(2, *shape)
    expected = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image.numpy(), axes=(1, 2)), norm="ortho"), axes=(1, 2))
    assert np.allclose(mri.fft2c(image).numpy(), expected)
    assert torch.allclose(mri.ifft2c(mri.fft2c(image)), image)
    middle = mri.fft2c(torch.ones(shape, dtype=torch.complex128)).abs()
    assert int(middle.argmax()) == (shape[0] // 2) * shape[1] + shape[1] // 2


def test_transform_is_the_sum_in_the_textbook():
    """Every sample as a sum over pixels, with coordinates counted from the middle."""
    image = noise(4, 5).numpy()
    y, x = np.arange(4) - 2, np.arange(5) - 2
    wave_y = np.exp(-2j * np.pi * np.outer(y, y) / 4)
    wave_x = np.exp(-2j * np.pi * np.outer(x, x) / 5)
    assert np.allclose(mri.fft2c(torch.from_numpy(image)).numpy(), wave_y @ image @ wave_x / np.sqrt(20))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("coils", [1, 5])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.complex128, 1e-13), (torch.complex64, 1e-6)])
def test_adjoint(shape: tuple[int, int], coils: int, dtype: torch.dtype, bound: float):
    maps, mask = case(coils, shape, dtype)
    image, kspace = noise(3, *shape, dtype=dtype), noise(3, coils, *shape, dtype=dtype)
    there, back = mri.forward(image, maps, mask), mri.adjoint(kspace, maps, mask)
    left = (there.to(torch.complex128) * kspace.conj()).sum()
    right = (image.to(torch.complex128) * back.conj()).sum()
    # Relative to the vectors, as the product of two random vectors is small by chance.
    assert abs(left - right) / (there.norm() * kspace.norm()) < bound


@pytest.mark.parametrize("coils", [1, 6])
def test_round_trip_of_full_data(coils: int):
    maps, _ = case(coils, (32, 30), torch.complex128)
    image, full = noise(2, 32, 30), torch.ones(30, dtype=torch.bool)
    again = mri.adjoint(mri.forward(image, maps, full), maps, full)
    assert (again - image).norm() / image.norm() < 1e-6  # maps are stored in single precision


def test_forward_is_what_a_loop_gives():
    maps, mask = case(3, (16, 12), torch.complex128)
    image = noise(3, 16, 12)
    found = mri.forward(image, maps, mask).numpy()
    assert found.shape == (3, 3, 16, 12)
    for item in range(3):
        for coil in range(3):
            seen = np.fft.ifftshift(maps[coil].numpy() * image[item].numpy())
            expected = np.fft.fftshift(np.fft.fft2(seen, norm="ortho")) * mask[item].numpy()[None, :]
            assert np.allclose(found[item, coil], expected)
    own = maps.expand(3, -1, -1, -1)
    assert torch.equal(mri.forward(image, own, mask), mri.forward(image, maps, mask))
    assert torch.equal(mri.forward(image, maps, mask[0])[1], mri.forward(image, maps, mask[:1].expand(3, -1))[1])
    plane = mask[:, None, None, :].expand(3, 1, 16, 12)
    assert torch.equal(mri.forward(image, maps, plane), mri.forward(image, maps, mask))


@pytest.mark.parametrize("shape", SHAPES)
def test_normal_is_the_adjoint_of_the_forward_operator(shape: tuple[int, int]):
    for coils in (1, 4):
        maps, mask = case(coils, shape, torch.complex128)
        image = noise(3, *shape)
        for samples in (mask, mask[0], torch.rand(3, 1, *shape).gt(0.5)):
            expected = mri.adjoint(mri.forward(image, maps, samples), maps, samples)
            assert torch.allclose(mri.normal(image, maps, samples), expected)


@pytest.mark.parametrize("kind", list(mri.SAMPLING))
@pytest.mark.parametrize("acceleration", [1, 2.5, 3, 4, 6, 8])
@pytest.mark.parametrize("lines", [64, 101])
def test_masks_have_the_exact_rate_and_center(kind: str, acceleration: float, lines: int):
    for seed in range(5):
        mask = mri.sampling_mask(kind, lines, acceleration=acceleration, seed=seed, center=0.08)
        assert mask.dtype == torch.bool
        assert int(mask.sum()) == round(lines / acceleration)
        band = round(lines * 0.08)
        first = lines // 2 - band // 2
        assert bool(mask[first : first + band].all())
        assert torch.equal(mask, mri.sampling_mask(kind, lines, acceleration=acceleration, seed=seed, center=0.08))


def test_masks_differ_between_items_and_are_what_their_names_say():
    masks = {
        kind: torch.stack([mri.sampling_mask(kind, 128, acceleration=4, seed=(0, item)) for item in range(300)])
        for kind in mri.SAMPLING
    }
    assert all(len(torch.unique(each, dim=0)) > 2 for each in masks.values())
    away = (torch.arange(128) - 64).abs()
    outside, far = (away > 10), (away > 48)
    share = {kind: float(each[:, far].float().mean() / each[:, outside].float().mean()) for kind, each in masks.items()}
    assert share["random"] == pytest.approx(1, abs=0.1)
    assert share["gaussian"] < 0.3
    gaps = torch.diff(torch.nonzero(masks["equispaced"][0][:58])[:, 0])
    assert int(gaps.max() - gaps.min()) <= 1
    spread = torch.diff(torch.nonzero(masks["random"][0][:58])[:, 0])
    assert int(spread.max() - spread.min()) > 1


def test_default_center_is_fastmris():
    for acceleration, band in ((4, 0.08), (8, 0.04)):
        masks = [mri.sampling_mask("random", 200, acceleration=acceleration, seed=item) for item in range(50)]
        always = torch.stack(masks).all(dim=0)
        assert int(always.sum()) == 200 * band


@pytest.mark.parametrize(("count", "size"), [(2, 40), (8, (40, 48))])
def test_coil_maps_are_normalized_smooth_and_different(count: int, size: int | tuple[int, int]):
    maps = mri.coil_maps(count, size, seed=3)
    assert maps.dtype == torch.complex64
    assert torch.allclose((maps.abs() ** 2).sum(dim=0), torch.ones(maps.shape[1:]))
    for axis in (1, 2):
        assert float(torch.diff(maps, dim=axis).abs().max()) < 0.15  # no seam of the phase is in view
    flat = maps.reshape(count, -1)
    alike = (flat @ flat.conj().T).abs() / flat.norm(dim=1)[:, None] / flat.norm(dim=1)
    assert float(alike[~torch.eye(count, dtype=torch.bool)].max()) < 0.9
    assert not torch.equal(maps, mri.coil_maps(count, size, seed=4))
    assert torch.equal(mri.coil_maps(1, 8, seed=0), torch.ones(1, 8, 8, dtype=torch.complex64))


def test_phase_and_noise():
    phase = mri.smooth_phase(48, seed=2)
    assert torch.allclose(phase.abs(), torch.ones(48, 48))
    assert float(torch.diff(phase, dim=0).abs().max()) < 0.5
    assert float(phase.angle().std()) > 0.1
    drawn = mri.complex_noise((200, 200), sigma=0.3, seed=(1, 2))
    assert float(drawn.real.std()) == pytest.approx(0.3, rel=0.03)
    assert float(drawn.imag.std()) == pytest.approx(0.3, rel=0.03)
    assert float((drawn.real * drawn.imag).mean()) == pytest.approx(0, abs=0.005)
    assert torch.equal(drawn, mri.complex_noise((200, 200), sigma=0.3, seed=(1, 2)))


def test_hard_consistency_puts_measured_samples_in_place():
    maps, mask = case(1, (20, 24), torch.complex128)
    truth, guess = noise(3, 20, 24), noise(3, 20, 24).flip(0)
    kspace = mri.forward(truth, maps, mask)
    found = mri.fft2c(mri.hard_consistency(guess, kspace, maps, mask))
    measured = mask[:, None, :].expand(3, 20, 24)
    assert torch.allclose(found[measured], mri.fft2c(truth)[measured])
    assert torch.allclose(found[~measured], mri.fft2c(guess)[~measured])


def test_hard_consistency_of_several_coils_comes_close():
    maps, mask = case(8, (32, 32), torch.complex128)
    truth = mri.ifft2c(noise(3, 32, 32) * (torch.arange(32) - 16).abs().lt(6))  # smooth, as images are
    guess = truth + 0.3 * noise(3, 32, 32).flip(0)
    kspace = mri.forward(truth, maps, mask)
    before, after = (
        (mri.forward(each, maps, mask) - kspace).norm() / kspace.norm()
        for each in (guess, mri.hard_consistency(guess, kspace, maps, mask))
    )
    assert after < 0.1 * before


@pytest.mark.parametrize(("coils", "bound"), [(1, 1e-10), (6, 2e-3)])
@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
def test_soft_consistency_minimizes_what_it_says(coils: int, bound: float, weight: float):
    """Its gradient there, z - image + weight A^H (A z - k), vanishes."""
    maps, mask = case(coils, (20, 24), torch.complex128)
    maps = maps / (maps.abs() ** 2).sum(dim=0).sqrt()
    image, kspace = noise(3, 20, 24), mri.forward(noise(3, 20, 24).flip(0), maps, mask)
    z = mri.soft_consistency(image, kspace, maps, mask, weight)
    slope = z - image + weight * mri.adjoint(mri.forward(z, maps, mask) - kspace, maps, mask)
    assert slope.norm() / image.norm() < bound
    if weight == 0:
        assert torch.equal(z, image)


@pytest.mark.parametrize("coils", [1, 4])
def test_gradients_pass_and_stay_finite_where_nothing_is_to_do(coils: int):
    maps, mask = case(coils, (16, 16), torch.complex64)
    image = noise(3, 16, 16, dtype=torch.complex64).requires_grad_()
    kspace = mri.forward(image.detach(), maps, mask)  # already consistent
    weight = torch.tensor(1.0, requires_grad=True)
    moved = mri.soft_consistency(mri.hard_consistency(image, kspace, maps, mask), kspace, maps, mask, weight)
    (moved.abs() ** 2).sum().backward()
    assert image.grad is not None
    assert weight.grad is not None
    assert bool(torch.isfinite(torch.view_as_real(image.grad)).all())
    assert bool(torch.isfinite(weight.grad))


def test_refusals():
    with pytest.raises(StudyError, match="did you mean 'random'"):
        mri.sampling_mask("randon", 64, acceleration=4, seed=0)
    with pytest.raises(StudyError, match="between 1 and the number of lines"):
        mri.sampling_mask("random", 64, acceleration=0.5, seed=0)
    for center in (-1.0, float("nan"), 2.0):
        with pytest.raises(StudyError, match="center must be a fraction of the lines, 0 to 1, got"):
            mri.sampling_mask("random", 64, acceleration=4, seed=0, center=center)
    with pytest.raises(StudyError, match="a center of 32 lines does not fit into the 16"):
        mri.sampling_mask("random", 64, acceleration=4, seed=0, center=0.5)
    with pytest.raises(StudyError, match="at least 1"):
        mri.coil_maps(0, 8, seed=0)
