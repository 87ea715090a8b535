import pytest
from shadowtutor_ros.algorithms.drift import SceneDrift
import torch


def features(seed):
    return torch.rand(1, 128, 12, 20, generator=torch.Generator().manual_seed(seed))


def test_equal_frames_are_at_distance_zero():
    drift = SceneDrift()
    assert drift.update(features(0), is_reference=True) == 0.0
    assert drift.update(features(0), is_reference=False) == 0.0 == drift.distance


def test_the_distance_is_relative_and_grows_with_the_change():
    drift = SceneDrift()
    drift.update(features(0), is_reference=True)
    for share in (0.1, 0.5, 2.0):
        moved = (1 + share) * features(0)
        assert drift.update(moved, is_reference=False) == pytest.approx(share, rel=1e-4)


def test_what_changes_in_one_corner_counts_for_more_than_the_same_spread_evenly():
    drift = SceneDrift()
    flat = torch.ones(1, 128, 12, 20)
    drift.update(flat, is_reference=True)
    corner = flat.clone()
    corner[:, :, :4, :5] += 12.0
    assert corner.mean() == (flat + 1.0).mean(), 'no proof'
    assert drift.update(corner, is_reference=False) > 2 * drift.update(
        flat + 1.0, is_reference=False)


def test_a_reference_replaces_the_last():
    drift = SceneDrift()
    drift.update(features(0), is_reference=True)
    assert drift.update(3 * features(0), is_reference=False) > 1
    assert drift.update(3 * features(0), is_reference=True) == 0.0
    assert drift.update(3 * features(0), is_reference=False) == 0.0


def test_half_precision_and_other_sizes():
    drift = SceneDrift()
    coarse = features(0)[:, :, :3, :4]
    drift.update(coarse.repeat_interleave(4, 2).bfloat16(), is_reference=True)
    drift.update(coarse.repeat_interleave(2, 3).bfloat16(), is_reference=False)
    assert drift.distance < 0.01, 'the grid is the same whatever the size'
