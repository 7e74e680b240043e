"""Batches (each image once, seeded order), and the crop and flip against a plain loop."""

import pytest
import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import CropFlip, ImagePart, batches


def part_of(n: int) -> ImagePart:
    return ImagePart(torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1), torch.arange(n))


def test_without_a_generator_the_order_is_the_parts_own() -> None:
    cut = list(batches(part_of(10), 4))
    assert [len(y) for _, y in cut] == [4, 4, 2]
    assert torch.cat([y for _, y in cut]).tolist() == list(range(10))


def test_a_generator_shuffles_and_its_seed_decides() -> None:
    def order(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        cut = list(batches(part_of(50), 8, generator))
        for x, y in cut:
            assert torch.equal(x.flatten().long(), y)
        return torch.cat([y for _, y in cut]).tolist()

    assert order(3) == order(3) != order(4)
    assert order(3) != list(range(50)) == sorted(order(3))


def test_a_second_pass_has_another_order() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat([y for _, y in batches(part_of(50), 8, generator)]) for _ in "ab")
    assert not torch.equal(first, second)


def test_batch_size_is_checked_at_the_call() -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "batch_size"):
        batches(part_of(3), 0)


def test_crops_are_windows_of_the_padded_image_at_even_chances() -> None:
    images, border, fill = 4000, 1, (-7.0, 9.0)
    x = torch.randn(images, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    out = CropFlip(fill, border, flip=False)(x, torch.Generator().manual_seed(1))
    assert torch.equal(x, before) and out.shape == x.shape
    places = torch.zeros(3, 3)
    for image, crop in zip(x, out, strict=True):
        padded = torch.stack(
            [
                torch.nn.functional.pad(channel, (1, 1, 1, 1), value=value)
                for channel, value in zip(image, fill, strict=True)
            ]
        )
        found = [
            (row, column)
            for row in range(3)
            for column in range(3)
            if torch.equal(crop, padded[:, row : row + 3, column : column + 4])
        ]
        assert len(found) == 1
        places[found[0]] += 1
    # each of the nine places: 4000/9 +- 5 standard deviations of a binomial
    assert (places - images / 9).abs().max() < 5 * (images * (1 / 9) * (8 / 9)) ** 0.5


def test_flips_mirror_whole_images_half_of_the_time() -> None:
    x = torch.randn(4000, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    out = CropFlip((0.0, 0.0), crop=0)(x, torch.Generator().manual_seed(1))
    same = (out == x).flatten(1).all(1)
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    assert torch.all(same ^ mirrored)
    assert abs(int(mirrored.sum()) - 2000) < 5 * (4000 / 4) ** 0.5


def test_the_generator_alone_decides() -> None:
    x = torch.randn(32, 3, 8, 8)
    augment = CropFlip((0.0, 0.0, 0.0))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = augment(x, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, augment(x, torch.Generator().manual_seed(5)))
    assert not torch.equal(one, augment(x, torch.Generator().manual_seed(6)))
