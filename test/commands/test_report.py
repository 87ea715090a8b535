"""Results side by side."""

import json
import re

import pytest

from shadowtutor_ros.commands.main import main


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return two folders of results: one step, and two steps on a key frame."""
    folder = tmp_path_factory.mktemp('results')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder / 'cache'))
        for steps, methods in ((1, 'wild,partial'), (2, 'partial')):
            assert main([
                'evaluate', 'scene', '--teacher', 'scene', '--width', '160', '--frames', '10',
                '--methods', methods, '--update-delay', '1', '--set', f'max_updates={steps}',
                '--out', str(folder / f'{steps}_steps')]) == 0
    return [str(folder / f'{steps}_steps') for steps in (1, 2)]


def report(*arguments):
    return main(['report', *map(str, arguments)])


def test_folders_are_configurations(folders, tmp_path, capfd):
    assert report(*folders, '--rate', '7', '--out', tmp_path) == 0
    tables = (tmp_path / 'tables.md').read_text()
    assert '| video | 1_steps Wild | 1_steps P-1 | 2_steps P-1 |' in tables
    assert 'kbit/s at 7 frames/s' in tables
    assert {path.name for path in tmp_path.iterdir()} >= {
        'results.json', 'results.csv', 'trade.png', 'accuracy.png'}
    assert '2_steps P-1' in capfd.readouterr().out
    # What it has written can be reported on again.
    assert report(tmp_path, '--methods', 'partial-1', '--out', tmp_path / 'again') == 0
    runs = json.loads((tmp_path / 'again' / 'results.json').read_text())['runs']
    assert [(run['label'], run['method']) for run in runs] == [
        ('1_steps', 'partial'), ('2_steps', 'partial')]


def test_beside_a_baseline(folders, tmp_path):
    path = tmp_path / 'baseline.json'
    path.write_text(json.dumps({'scene (day, seed 0)': {
        'wild': {'miou': 0.125, 'miou_present': 0.5, 'key_ratio': 0, 'frames': 10}}}))
    assert report(folders[0], '--baseline', path, '--out', tmp_path / 'o') == 0
    tables = (tmp_path / 'o' / 'tables.md').read_text()
    assert 'Wild beside the baseline' in tables and '| 12.5 |' in tables
    assert 'P-1 beside' not in tables


@pytest.mark.parametrize('arguments, said', [
    (['/nowhere'], "'/nowhere/results.json' cannot be read"),
    (['{0}', '--methods', 'full-8'], "'full-8' is not among .* wild, partial-1"),
    (['{0}', '--rate', '-1'], '--rate is -1'),
    (['{0}', '--baseline', '/nowhere.json'], 'nowhere.json'),
    (['{0}', '--baseline', '{0}/results.csv'], 'is not JSON'),
    (['{0}', '--baseline', '{0}/results.json'], 'is not of the form'),
    (['{0}', '{0}/../1_steps'], "both have a configuration '1_steps'")])
def test_what_is_wrong_is_one_clear_error(folders, tmp_path, arguments, said, capfd):

    arguments = [argument.format(*folders) for argument in arguments]
    assert report(*arguments, '--out', tmp_path) == 1
    error = capfd.readouterr().err.strip()
    assert re.search(said, error) and '\n' not in error
