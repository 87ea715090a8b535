"""A headless Chromium, by the W3C's WebDriver protocol: JSON over HTTP, to Debian's driver."""

import base64
import json
from pathlib import Path
import re
import shutil
import subprocess
import urllib.error
import urllib.request

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')

_FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage')

#: The key by which the protocol names elements.
_ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'


class Chromium:
    """
    A browser with one window, from ``with`` to its end.

    :param folder: new and empty, for its profile.
    :param size: of the window in pixels.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1400, 1000), flags=()):
        self._folder, self._size, self._flags = folder, size, flags

    def __enter__(self):
        # It says which port it has chosen; bufsize and text let that line through at once.
        self._driver = subprocess.Popen(
            [DRIVER, '--port=0'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = next(found[1] for line in self._driver.stdout
                    if (found := re.search(r'started successfully on port (\d+)', line)))
        self._base = f'http://127.0.0.1:{port}/session'
        try:
            session = self._ask('POST', '', {'capabilities': {'alwaysMatch': {
                # In milliseconds: a computer may be busy.
                'timeouts': {'script': 300000, 'pageLoad': 300000},
                'goog:chromeOptions': {'binary': CHROMIUM, 'args': [
                    *_FLAGS, *self._flags, f'--user-data-dir={self._folder}',
                    f'--window-size={self._size[0]},{self._size[1]}']},
                'goog:loggingPrefs': {'browser': 'ALL'}}}})
        except BaseException:
            self._driver.kill()
            raise
        self._base += f"/{session['sessionId']}"
        return self

    def __exit__(self, *exception):
        try:
            self._ask('DELETE', '')
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def _ask(self, method, path, content=None):
        request = urllib.request.Request(
            self._base + path, None if content is None else json.dumps(content).encode(),
            {'Content-Type': 'application/json'}, method=method)
        # Not by a proxy that the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=300) as response:
                return json.load(response)['value']
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)['value']['message']) from None

    def open(self, address):
        """Go to an address."""
        self._ask('POST', '/url', {'url': address})

    def run(self, script, *arguments):
        """Run the body of a function in the page and return what it returns."""
        return self._ask('POST', '/execute/sync', {'script': script, 'args': list(arguments)})

    def find(self, selector):
        """Return the element of a CSS selector, for the others."""
        return self._ask('POST', '/element', {'using': 'css selector', 'value': selector})

    def text(self, selector):
        """Return the text of an element; empty where it is not there."""
        return self.run('return document.querySelector(arguments[0])?.innerText ?? ""', selector)

    def click(self, selector):
        """Click an element, as a person does."""
        # The driver does not see what stands still above a page that is scrolled.
        self.run('document.querySelector(arguments[0]).scrollIntoView({block: "center"})',
                 selector)
        self._ask('POST', f'/element/{self.find(selector)[_ELEMENT]}/click', {})

    def type(self, selector, text):
        """Type into an element; ``\\n`` is Enter."""
        element = self.find(selector)[_ELEMENT]
        self._ask('POST', f'/element/{element}/value', {'text': text.replace('\n', '\ue007')})

    def clear(self, selector):
        """Empty a text field."""
        self._ask('POST', f'/element/{self.find(selector)[_ELEMENT]}/clear', {})

    def resize(self, width, height):
        """Make the window another size."""
        self._ask('POST', '/window/rect', {'width': width, 'height': height})

    def complaints(self):
        """Return what the browser's console has said since the last time."""
        return [entry['message'] for entry in self._ask('POST', '/se/log', {'type': 'browser'})]

    def screenshot(self, path):
        """Write what the window shows as a PNG file."""
        Path(path).write_bytes(base64.b64decode(self._ask('GET', '/screenshot')))
