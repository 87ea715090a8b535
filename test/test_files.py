"""Files that are there as a whole or not at all."""

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
