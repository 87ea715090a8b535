"""Files that are there as a whole or not at all."""

import os
import time

import pytest
from shadowtutor_ros.files import replacing


def test_a_file_takes_the_place_of_another_at_the_end(tmp_path):
    path = tmp_path / 'made' / 'file'
    for text in ('first', 'second'):
        with replacing(path) as new:
            new.write_text(text)
            assert not path.exists() or path.read_text() == 'first'
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_what_is_broken_off_leaves_what_was(tmp_path, error):
    path = tmp_path / 'file'
    path.write_text('first')
    with pytest.raises(error), replacing(path) as new:
        new.write_text('half')
        raise error
    assert path.read_text() == 'first'
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_an_hour_later(tmp_path):
    path, other = tmp_path / 'file', tmp_path / 'other'
    # Writers that come to no end, as those of a process that was killed.
    writers = [replacing(target) for target in (path, path, other)]
    left = [writer.__enter__() for writer in writers]
    for one in left:
        one.write_text('half')
    for one in left[1:]:
        os.utime(one, 2 * (time.time() - 3700,))
    with replacing(path) as new:
        new.write_text('whole')
    assert sorted(tmp_path.iterdir()) == sorted([path, left[0], left[2]])
    assert left[0].read_text() == 'half', 'another may still be writing it'
