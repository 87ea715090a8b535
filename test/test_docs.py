"""README and docs: what they tell people to type works, and what they point at is there."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest
import shadowtutor_ros
from shadowtutor_ros.commands import report
from shadowtutor_ros.commands.main import make_parser
from shadowtutor_ros.evaluation.settings import parse_setting
from shadowtutor_ros.launching.arguments import TABLES, unknown

CHECKOUT = Path(__file__).parents[1]
DOCS = sorted([CHECKOUT / 'README.md', CHECKOUT / 'CONTRIBUTING.md', *CHECKOUT.glob('docs/*.md')])

#: What people are told to type beside the package's own commands; ours are looked at below.
OTHERS = {
    'apt', 'colcon', 'git', 'hf', 'iw', 'jetson_clocks', 'nvpmodel', 'pip', 'python', 'python3',
    'rosdep', 'scp', 'sysctl'}
OWN = {'make', 'ros2', 'shadowtutor'}

#: Writes down how it was called, and does nothing.
STUB = """#!/bin/sh
exec {python} -c 'import json, sys
print(json.dumps(sys.argv[1:]), file=open("{calls}", "a"))' "$(basename "$0")" "$@"
"""


def code_blocks(text):
    """Return the blocks of code of a page, fenced or indented."""
    fenced = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)
    blocks = [body for language, body in fenced.findall(text) if language in ('', 'bash', 'sh')]
    lines, block = ['', *fenced.sub('', text).splitlines(), ''], []
    for before, line in zip(lines, lines[1:]):
        deep = re.match(r' {4}(?! *[-*|] )', line)
        if deep and (block or not before.strip()):
            block.append(line)
        elif block and (line.strip() or not before.strip()):
            blocks.append('\n'.join(block))
            block = []
        elif block:
            block.append('')
    # A page ends, and blocks are as deep as their list.
    return ['\n'.join(re.sub(r'^ {4,7}', '', line) for line in one.splitlines())
            for one in blocks + ['\n'.join(block)] if one.strip()]


def is_shell(block):
    """Tell whether a block is for a shell: what it starts with is a command."""
    words = r'(?:sudo )?(?:[A-Z_]+=\S* )*(?:\./|\.venv/bin/)?([\w.]+)(?![\w.:])'
    first = re.match(words, block.lstrip())
    shell = re.match(r'[A-Z_]+=|\w+\(\) \{|\. ', block.lstrip())
    return bool(shell or first and first[1] in OWN | OTHERS | {'cd', 'evaluate', 'export'})


@pytest.fixture(scope='module', params=DOCS, ids=lambda path: path.name)
def page(request, tmp_path_factory):
    """Return a page, and what a shell calls when all of it is typed: programs with arguments."""
    folder = tmp_path_factory.mktemp('typed')
    calls = folder / 'calls'
    calls.touch()
    (folder / '.venv' / 'bin').mkdir(parents=True)
    (folder / 'install').mkdir()
    for name in OWN | OTHERS | {'sudo', 'cd'}:
        stub = folder / '.venv' / 'bin' / name
        stub.write_text(STUB.format(python=sys.executable, calls=calls))
        stub.chmod(0o755)
    for script in (folder / '.venv' / 'setup.sh', folder / 'install' / 'setup.bash'):
        script.touch()
    (folder / '.venv' / 'bin' / 'sudo').write_text('#!/bin/sh\nexec "$@"\n')
    typed = '\n'.join(filter(is_shell, code_blocks(request.param.read_text())))
    script = f'cd() {{ :; }}\nHOME={folder}\n{typed}\n'  # its folders are not here
    done = subprocess.run(
        ['bash', '-u', '-c', script], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, env={
            'PATH': f'{folder}/.venv/bin:/usr/bin:/bin',
            'LC_ALL': os.environ.get('LC_ALL', 'C.UTF-8')})
    assert not done.stderr, f'{request.param.name}: {done.stderr}'
    return request.param, [tuple(json.loads(line)) for line in calls.read_text().splitlines()]


def made(calls, *words):
    """Return the arguments of the calls that begin so."""
    return [call[len(words):] for call in calls if call[:len(words)] == words]


def commands(calls):
    """Return the arguments of all calls of `shadowtutor`, however it was called."""
    return made(calls, 'shadowtutor') + made(
        calls, 'ros2', 'run', 'shadowtutor_ros', 'shadowtutor')


@pytest.mark.parametrize('text, expected', [
    ('word\n\n    make demo\n    make test\n\nword', ['make demo\nmake test']),
    ('word\n    no block\n', []),
    ('```\nmake\n```\n\n```python\nx = 1\n```\n', ['make\n']),
    ('- a\n\n      sudo make\n\nb', ['sudo make']),
    ('a\n\n    one\n\n    two\n', ['one\n\ntwo'])])
def test_blocks_are_found(text, expected):
    assert [block.strip('\n') for block in code_blocks(text)] == [
        block.strip('\n') for block in expected]


def test_commands_are_told_from_other_blocks():
    assert is_shell('sudo .venv/bin/shadowtutor link') and is_shell('OUT=a make demo')
    assert is_shell('f() { make; }') and is_shell('. .venv/setup.sh && make')
    assert not is_shell('background: nothing') and not is_shell('robot      workstation')


def test_pages_tell_people_to_type_something(page):
    path, calls = page
    assert calls or path.name in ('design.md', 'parameters.md', 'teachers.md')


def test_make_knows_its_targets_and_variables(page):
    _, calls = page
    makefile = (CHECKOUT / 'Makefile').read_text()
    for arguments in made(calls, 'make'):
        for word in arguments:
            name, is_variable, _ = word.partition('=')
            if is_variable:
                assert re.search(rf'echo.* {name}=', makefile), word
            else:
                assert re.search(rf'^{name}:', makefile, re.M), word


def test_arguments_of_commands_are_known(page, capsys):
    _, calls = page
    for arguments in commands(calls):
        try:
            make_parser().parse_args(arguments)
        except SystemExit as end:
            assert not end.code, f'{" ".join(arguments)}: {capsys.readouterr().err}'


#: What takes minutes, has no end, or needs a network or a GPU; each has tests of its own.
LONG = ('benchmark', 'dashboard', 'demo', 'faults', 'fuzz', 'link', 'pretrain', 'soak')

#: Combinations of options that ran: further ones differ in values, whose names are looked at.
RAN = set()


def run(arguments, folder, results):
    """Run a command on a few small frames of the scene instead of what it names."""
    parsed = make_parser().parse_args(arguments)
    for name, value in {
            'videos': ['scene'], 'teacher': 'scene', 'student': '', 'frames': 3, 'width': 96,
            'fps': 0, 'jobs': 1, 'threads': 1, 'device': 'cpu',
            'out': folder / {'export': 'student.onnx', 'security': 'policy.xml'}.get(
                arguments[0], ''),
            'folders': [results],
            'resume': False, 'scored_classes': '', 'classes': ''}.items():
        if hasattr(parsed, name):
            setattr(parsed, name, value)
    for name in ('baseline', 'status'):  # what somebody else has measured, or a running robot
        if hasattr(parsed, name):
            delattr(parsed, name)
    return parsed.run(parsed)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Return a folder of results, for reports."""
    folder = tmp_path_factory.mktemp('results') / 'run'
    run(['evaluate', 'scene', '--teacher', 'scene', '--methods', 'wild,partial',
         '--update-delay', '8'], folder, None)
    return folder


def test_commands_run(page, tmp_path, results, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, 'write_plots', lambda *arguments: [])  # they take most of the time
    _, calls = page
    for arguments in commands(calls):
        if not arguments or arguments[0] in LONG or '--help' in arguments:
            continue
        for option, value in zip(arguments, arguments[1:]):
            if option == '--set':
                parse_setting(value)
        kind = arguments[0], *sorted(
            {word for word in arguments if word.startswith('--')} - {'--label', '--out'})
        if kind in RAN:
            continue
        RAN.add(kind)
        assert run(arguments, tmp_path / str(len(RAN)), results) == 0, (
            f'{" ".join(arguments)}: {capsys.readouterr().err}')


# --- ROS -----------------------------------------------------------------------------------------

def test_launch_files_and_their_arguments_are_there(page):
    _, calls = page
    for package, name, *arguments in made(calls, 'ros2', 'launch'):
        if package == 'shadowtutor_ros':
            given = {word.partition(':=')[0] for word in arguments if ':=' in word}
            assert (CHECKOUT / 'launch' / name).is_file()
            assert not unknown(given, TABLES[name.removesuffix('.launch.py')]), name


# --- places --------------------------------------------------------------------------------------

def anchors(path):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', path.read_text(), re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('path', DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r'\]\(([^)\s]+)\)', path.read_text()):
        if target.startswith('http'):
            continue
        file, _, anchor = target.partition('#')
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f'{path.name}: {target}'
        if anchor:
            assert anchor in anchors(there), f'{path.name}: {target}'


def test_every_picture_is_shown_and_small():
    text = ''.join(path.read_text() for path in DOCS)
    for picture in (CHECKOUT / 'docs' / 'images').iterdir():
        assert f'images/{picture.name}' in text
        assert picture.stat().st_size <= 2e6


@pytest.mark.parametrize('path', DOCS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    for name in re.findall(r'`((?:shadowtutor_ros|test|config|launch|msg|docs|tools)/[\w./]+)`',
                           path.read_text()):
        if '*' not in name:
            assert (CHECKOUT / name).exists() or (
                Path(shadowtutor_ros.__file__).parents[1] / name).exists(), f'{path.name}: {name}'
