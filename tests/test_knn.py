"""Nearest neighbours: exact whatever the precision, ties and blocks; and DINOv2's vote.

Second sources: scikit-learn's brute force, a sort of all similarities in float64, and the vote of
dinov2/eval/knn.py written out in torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from rsbench.errors import DataError, RsbenchError
from rsbench.probes import knn
from rsbench.probes.knn import Neighbours, build_bank, find_neighbours, vote


@pytest.fixture(autouse=True)
def _float32_as_it_is() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def _examples(
    num_examples: int, width: int, *, num_classes: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(num_examples) % num_classes
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    features = centres[labels] + generator.normal(size=(num_examples, width))
    return features.astype(np.float32), labels


def _by_sorting(features: np.ndarray, asked: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Places of the nearest, of equals the first: all similarities in float64, sorted."""

    def units(each: np.ndarray) -> np.ndarray:
        exact = each.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        return exact / np.where(lengths == 0, 1, lengths)

    similarities = np.round(units(asked) @ units(features).T * 2.0**36)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :num_neighbours]


def test_neighbours_are_those_of_scikit_learn() -> None:
    features, labels = _examples(700, 32)
    asked, _ = _examples(90, 32, seed=1)

    found = find_neighbours(build_bank(features, labels), asked, num_neighbours=20)

    peer = KNeighborsClassifier(20, metric="cosine", algorithm="brute")
    peer.fit(features.astype(np.float64), labels)
    distances, places = peer.kneighbors(asked.astype(np.float64))
    np.testing.assert_array_equal(found.places_NT, places)
    np.testing.assert_array_equal(found.labels_NT, labels[places])
    np.testing.assert_allclose(found.similarities_NT, 1 - distances, atol=2.0**-36)


def test_of_equal_examples_the_first_given_is_nearer() -> None:
    features, labels = _examples(60, 8)
    repeated = np.concatenate([features, features, 4 * features])
    place_of = np.random.default_rng(2).permutation(len(repeated))
    shuffled = repeated[place_of]

    found = find_neighbours(
        build_bank(shuffled, np.tile(labels, 3)[place_of]), features, num_neighbours=4
    )

    np.testing.assert_array_equal(found.places_NT, _by_sorting(shuffled, features, 4))
    nearest_three = place_of[found.places_NT[:, :3]] % 60
    assert (nearest_three == np.arange(60)[:, None]).all()
    assert (np.diff(found.places_NT[:, :3], axis=1) > 0).all()


def test_neighbours_that_float32_can_not_tell_apart_are_found_all_the_same() -> None:
    # All point almost the same way: similarities differ by 1e-9 to 1e-6, float32 resolves 6e-8.
    generator = np.random.default_rng(0)
    features = 1.0 + 3e-4 * generator.normal(size=(900, 24))
    asked = 1.0 + 3e-4 * generator.normal(size=(20, 24))
    labels = np.arange(900) % 3

    found = find_neighbours(build_bank(features, labels), asked, num_neighbours=7)

    np.testing.assert_array_equal(found.places_NT, _by_sorting(features, asked, 7))
    assert found.num_measured_again == 20


def test_what_is_measured_is_the_features_as_given_and_not_their_rounded_directions() -> None:
    # Cosines of 1 - 4e-7: directions rounded to float32 find themselves first one time in four.
    generator = np.random.default_rng(0)
    features = (1 + 1e-3 * np.abs(generator.normal(size=(800, 512)))).astype(np.float32)
    labels = np.arange(800) % 3

    found = find_neighbours(build_bank(features, labels), features[:40], num_neighbours=20)

    np.testing.assert_array_equal(found.places_NT[:, 0], np.arange(40))
    np.testing.assert_array_equal(found.places_NT, _by_sorting(features, features[:40], 20))


@pytest.mark.parametrize("scale", [2.0**900, 2.0**-900])
def test_squares_of_features_may_be_beyond_float64(scale: float) -> None:
    features, labels = _examples(60, 8)
    exact = features.astype(np.float64)

    plain = find_neighbours(build_bank(exact, labels), exact, num_neighbours=9)
    scaled = find_neighbours(build_bank(exact * scale, labels), exact, num_neighbours=9)

    np.testing.assert_array_equal(plain.places_NT, scaled.places_NT)
    np.testing.assert_array_equal(plain.similarities_NT, scaled.similarities_NT)


def test_examples_far_apart_are_measured_once() -> None:
    features, labels = _examples(900, 24)

    found = find_neighbours(build_bank(features, labels), features[:30], num_neighbours=7)

    assert found.num_measured_again == 0


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_neighbours_do_not_depend_on_blocks_or_threads(
    monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    generator = np.random.default_rng(0)
    features = 1.0 + spread * generator.normal(size=(500, 16))
    features[250:260] = features[:10]
    labels = np.arange(500) % 3
    asked = 1.0 + spread * generator.normal(size=(40, 16))
    whole = find_neighbours(build_bank(features, labels), asked, num_neighbours=9)

    monkeypatch.setattr(knn, "_QUERIES_PER_BLOCK", 7)
    monkeypatch.setattr(knn, "_BLOCK_FLOATS", 7 * 11)
    monkeypatch.setattr(knn, "_CACHED_FLOATS", 100)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        in_pieces = find_neighbours(build_bank(features, labels), asked, num_neighbours=9)
    finally:
        torch.set_num_threads(before)

    np.testing.assert_array_equal(whole.places_NT, in_pieces.places_NT)
    np.testing.assert_array_equal(whole.similarities_NT, in_pieces.similarities_NT)


def test_a_matmul_allowed_to_be_coarse_does_not_move_neighbours() -> None:
    features, labels = _examples(400, 16)
    torch.set_float32_matmul_precision("high")

    found = find_neighbours(build_bank(features, labels), features[:25], num_neighbours=5)

    np.testing.assert_array_equal(found.places_NT, _by_sorting(features, features[:25], 5))


def test_the_vote_is_that_of_dinov2() -> None:
    features, labels = _examples(300, 8, num_classes=4)
    asked, _ = _examples(50, 8, seed=3)
    found = find_neighbours(build_bank(features, labels), asked, num_neighbours=40)

    for num_voting in (1, 10, 40):
        shares = vote(found, num_voting=num_voting, temperature=0.07, num_classes=6)

        # KnnModule.forward: softmax over the largest k, one-hot, cut to this k.
        weights = torch.softmax(torch.from_numpy(found.similarities_NT) / 0.07, dim=1)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(found.labels_NT), num_classes=6)
        theirs = (one_hot * weights[:, :, None])[:, :num_voting].sum(1)
        np.testing.assert_allclose(shares, (theirs / theirs.sum(1, keepdim=True)).numpy())
        assert (shares[:, 4:] == 0).all()


def test_a_vote_of_three_is_as_by_hand() -> None:
    found = Neighbours(
        places_NT=np.array([[4, 2, 0]]),
        labels_NT=np.array([[1, 0, 0]]),
        similarities_NT=np.array([[0.9, 0.8, 0.7]]),
        num_measured_again=0,
    )

    # Weights 1, e^-1 and e^-2: two farther ones of class 0 have 0.503 against 1.
    shares = vote(found, num_voting=3, temperature=0.1, num_classes=2)

    heavy, light = 1.0, np.exp(-1) + np.exp(-2)
    np.testing.assert_allclose(shares, [[light / (heavy + light), heavy / (heavy + light)]])
    # A high temperature makes the votes equal; a low one leaves the nearest alone.
    flat = vote(found, num_voting=3, temperature=1e6, num_classes=2)
    np.testing.assert_allclose(flat, [[2 / 3, 1 / 3]], atol=1e-6)
    assert vote(found, num_voting=3, temperature=1e-6, num_classes=2).tolist() == [[0.0, 1.0]]


def test_scale_does_not_matter_and_features_without_length_are_similar_to_none() -> None:
    features, labels = _examples(50, 8)
    features[7] = 0
    scales = np.geomspace(1e-30, 1e30, 50, dtype=np.float32)[:, None]

    plain = find_neighbours(build_bank(features, labels), features, num_neighbours=50)
    scaled = find_neighbours(build_bank(features * scales, labels), features, num_neighbours=50)

    # Scaling rounds each feature anew, which may exchange two that are equally near.
    np.testing.assert_allclose(plain.similarities_NT, scaled.similarities_NT, atol=5e-7)
    assert (plain.similarities_NT[7] == 0).all()
    assert plain.places_NT[7].tolist() == list(range(50))


def test_one_class_and_features_that_are_not_finite_are_refused() -> None:
    features, labels = _examples(20, 4)
    bank = build_bank(features, labels)

    with pytest.raises(DataError, match=r"at least two classes.* 20 examples of 1"):
        build_bank(features, np.zeros(20, dtype=np.int64))
    features[4, 2] = np.nan
    with pytest.raises(RsbenchError, match="1 of 20 examples have NaN or infinity"):
        build_bank(features, labels)
    with pytest.raises(RsbenchError, match="1 of 20 examples have NaN or infinity"):
        find_neighbours(bank, features, num_neighbours=3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_neighbours_on_a_gpu_are_those_on_the_cpu(spread: float) -> None:
    generator = np.random.default_rng(0)
    features = 1.0 + spread * generator.normal(size=(5000, 64))
    labels = np.arange(5000) % 3
    asked = 1.0 + spread * generator.normal(size=(300, 64))

    there = find_neighbours(build_bank(features, labels, device="cuda"), asked, num_neighbours=50)
    here = find_neighbours(build_bank(features, labels), asked, num_neighbours=50)

    np.testing.assert_array_equal(there.places_NT, here.places_NT)
    # A similarity at a border of the grid may fall to either side.
    np.testing.assert_allclose(there.similarities_NT, here.similarities_NT, rtol=0, atol=2.0**-35)
