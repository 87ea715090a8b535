// The page: a card for each student and each teacher, kept up to date over one WebSocket.
// What robots say is set as text, never as HTML.

import { digits, Plot } from './plot.js';
import { Parameters } from './parameters.js';

const STATES = {
  waiting_for_images: ['no images', 'error'], waiting_for_teacher: ['not tutored', 'warning'],
  tutored: ['tutored', 'good'], update_overdue: ['updates overdue', 'warning'],
  no_masks: ['no masks', 'error'], refused: ['refused', 'warning'], disabled: ['paused', ''],
};
const VIEWS = {
  overlay: 'overlay', camera: 'camera', color_mask: 'mask', confidence: 'confidence',
};
const MAX_SAMPLES = 600;

const cards = { students: new Map(), teachers: new Map() };
const answers = new Map();
let socket = null, series = [], readOnly = false, requests = 0, last = null;

const one = (selector, within = document) => within.querySelector(selector);
const clone = (id) => one(`#${id}`).content.firstElementChild.cloneNode(true);

/** Make an element with a class and a text. */
function make(tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** Replace children only where something has changed, so that nothing flickers or is read twice. */
function fill(element, key, children) {
  const text = JSON.stringify(key);
  if (element.filled === text) return;
  element.filled = text;
  element.replaceChildren(...children());
}

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

/** Ask the server for a change; resolves to {done, text}. */
function ask(message) {
  return new Promise((resolve) => {
    if (!socket || socket.readyState !== WebSocket.OPEN) {
      resolve({ done: false, text: 'the dashboard is not connected' });
      return;
    }
    const id = ++requests;
    answers.set(id, resolve);
    send({ ...message, id });
  });
}

class Card {
  constructor(kind, name) {
    this.name = name;
    this.element = clone(kind);
    this.element.dataset.node = name;
    one('h2', this.element).textContent = name;
    this.parameters = new Parameters(one('.rows', this.element), (parameter, value) => ask(
      { do: 'set', node: name, parameter, value }));
  }

  describe(node) {
    this.node = node;
    this.element.classList.toggle('gone', node.gone);
    one('.parameters', this.element).hidden = !node.parameters.length;
    this.parameters.show(node.parameters, readOnly || node.gone);
  }

  report(report, now) {
    fill(one('.warnings', this.element), report.warnings, () => report.warnings.map(
      ({ level, text }) => make('li', level, text)));
    const { lines } = report;
    one('.log', this.element).hidden = !lines.length;
    fill(one('.log ol', this.element), [lines, Math.round(now / 5)], () => lines.slice().reverse().map(
      ([time, level, text]) => {
        const line = make('li', level, '');
        line.append(make('time', '', ago(now - time)), text);
        return line;
      }));
  }

  numbers(pairs) {
    fill(one('.numbers', this.element), pairs, () => pairs.flatMap(
      ([name, value]) => [make('div', '', '')].map((pair) => {
        pair.append(make('dt', '', name), make('dd', '', value));
        return pair;
      })));
  }

  answer({ done, text }) {
    const answer = one('.answer', this.element);
    answer.textContent = text;
    answer.classList.toggle('failed', !done);
    clearTimeout(this.fading);
    if (done) this.fading = setTimeout(() => { answer.textContent = ''; }, 8000);
  }

  gone() { this.element.remove(); }
}

class StudentCard extends Card {
  constructor(name) {
    super('student', name);
    this.samples = [];
    this.view = null;
    this.visible = false;
    this.came = [];
    this.picture = one('.picture', this.element);
    this.picture.setAttribute('aria-label', `what ${name} sees`);
    this.pictures = this.picture.getContext('bitmaprenderer');
    this.makePlots();
    this.input = one('.see input', this.element);
    this.input.addEventListener('input', () => { this.typed = true; });
    one('.see', this.element).addEventListener('submit', async (event) => {
      event.preventDefault();
      const answer = await ask({ do: 'see', node: name, text: this.input.value });
      this.typed = !answer.done;  // what was refused stays, to be mended
      this.answer(answer);
    });
    for (const button of this.element.querySelectorAll('[data-service]')) {
      button.addEventListener('click', () => this.call(button));
    }
    observer.observe(this.element);
  }

  makePlots() {
    const at = (name) => series.indexOf(name);
    const plots = [
      { name: 'metric (mIoU)', unit: '', scale: 1, lines: [at('metric_before'), at('metric_after')],
        labels: ['before', 'after'], top: 1, most: 1 },
      { name: 'stride', unit: 'frames', scale: 1, lines: [at('stride')], top: 8 },
      { name: 'masks', unit: '/s', scale: 1, lines: [at('mask_rate')],
        band: [at('throughput_lower'), at('throughput_upper')], top: 1 },
      { name: 'traffic', unit: 'kbit/s', scale: 1e-3, lines: [at('traffic')],
        band: [at('traffic_lower'), at('traffic_upper')], top: 10 },
      { name: 'latency', unit: 'ms', scale: 1e3, lines: [at('latency_seconds')], top: 10 },
    ];
    this.plots = plots.map((options) => {
      const element = clone('plot');
      element.classList.toggle('wide', options.name.startsWith('metric'));
      one('.plots', this.element).append(element);
      return new Plot(element, options);
    });
  }

  describe(node) {
    super.describe(node);
    if (!node.views.includes(this.view)) this.choose(node.views[0] ?? null);
    fill(one('.views', this.element), [node.views, this.view], () => node.views.map((view) => {
      const button = make('button', '', VIEWS[view] ?? view);
      button.type = 'button';
      button.setAttribute('aria-pressed', view === this.view);
      button.addEventListener('click', () => {
        this.choose(view);
        this.describe(this.node);
      });
      return button;
    }));
    fill(one('.classes', this.element), node.classes, () => node.classes.map((kind) => {
      const chip = make('li', kind.on_offer ? '' : 'withheld', '');
      const color = make('span', 'color', '');
      color.style.background = kind.color;
      chip.append(color, make('span', 'name', kind.name));
      chip.title = kind.name + (kind.on_offer ? '' : ': not chosen now, since the teacher has not seen it of late');
      return chip;
    }));
    if (!this.typed && document.activeElement !== this.input) this.input.value = node.wanted;
    const fixed = readOnly || node.gone;
    for (const input of one('.see', this.element).children) input.disabled = fixed || !node.wants;
    for (const button of this.element.querySelectorAll('[data-service]')) {
      button.disabled = fixed || !node.services.includes(button.dataset.service);
    }
  }

  report(report, now, samples) {
    super.report(report, now);
    const [word, level] = STATES[report.state] ?? ['unknown', ''];
    const state = one('.state', this.element);
    state.textContent = this.node.gone ? 'gone' : word;
    state.className = `state badge ${this.node.gone ? 'error' : level}`;
    this.paused = report.state === 'disabled';
    one('[data-service=enable]', this.element).textContent = this.paused ? 'Resume' : 'Pause';
    this.numbers(report.state === '' ? [] : [
      ['teacher', report.teacher || 'none'],
      ['key frames', `${report.key_frames_sent}`],
      ['updates', `${report.updates_applied}`],
      ['round trip', seconds(report.round_trip_seconds)],
      ['sent up', bytes(report.bytes_up)],
      ['sent down', bytes(report.bytes_down)],
    ]);
    this.samples.push(...samples ?? []);
    this.samples.splice(0, this.samples.length - MAX_SAMPLES);
    if (this.visible) for (const plot of this.plots) plot.show(this.samples, now);
    one('.rate', this.element).textContent = this.rate();
  }

  /** Say how often pictures come, over the last five seconds or the last two pictures. */
  rate() {
    const begin = performance.now() - 5000, last = this.came.at(-1);
    while (this.came.length > 2 && this.came[0] < begin) this.came.shift();
    if (this.came.length < 2) return '';
    if (last < begin) return `${Math.round((performance.now() - last) / 1000)} s old`;
    return `${(1000 * (this.came.length - 1) / (last - this.came[0])).toFixed(1)} pictures/s`;
  }

  choose(view) {
    this.view = view;
    this.came = [];
    this.picture.hidden = true;
    one('.no-picture', this.element).textContent = 'no picture yet';
    look();
  }

  /** Show a picture, and ask for the next. Bitmaps are freed at once, where images pile up. */
  async show(view, data) {
    const bitmap = await createImageBitmap(data).catch(() => null);
    if (view !== this.view) return;
    if (bitmap) {
      this.came.push(performance.now());
      this.picture.width = bitmap.width;
      this.picture.height = bitmap.height;
      this.pictures.transferFromImageBitmap(bitmap);
      this.picture.hidden = false;
      this.picture.dataset.shown = Number(this.picture.dataset.shown ?? 0) + 1;
      one('.no-picture', this.element).textContent = '';
    }
    send({ do: 'seen', student: this.name, view });
  }

  async call(button) {
    const { service } = button.dataset;
    if (service === 'reset' && !button.classList.contains('sure')) {
      button.classList.add('sure');
      button.textContent = 'Forget what was learnt?';
      setTimeout(() => {
        button.classList.remove('sure');
        button.textContent = 'Reset';
      }, 4000);
      return;
    }
    this.answer(await ask({ do: 'call', node: this.name, service, value: this.paused }));
  }

  gone() {
    observer.unobserve(this.element);
    super.gone();
  }
}

class TeacherCard extends Card {
  constructor(name) {
    super('teacher', name);
  }

  report(report, now) {
    super.report(report, now);
    const state = one('.state', this.element);
    const worst = report.warnings[0]?.level;
    state.textContent = this.node.gone ? 'gone' : 'teacher';
    state.className = `state badge ${this.node.gone ? 'error' : worst === 'note' || !worst ? 'good' : worst}`;
    this.numbers(report.teacher ? [
      ['teacher', report.teacher],
      ['robots', `${report.served} of ${report.of}`],
      ['answered', `${report.answered}`], ['refused', `${report.refused}`],
      ['waiting', `${report.waiting}`], ['memory', bytes(report.megabytes * 1e6)],
    ] : []);
    one('.scroll', this.element).hidden = !report.robots.length;
    fill(one('tbody', this.element), report.robots, () => report.robots.map((robot) => {
      const row = document.createElement('tr');
      row.append(...[
        robot.name, `${robot.key_frames_answered}`, robot.refusals || '–',
        digits(robot.metric_after), seconds(robot.waiting_seconds),
        seconds(robot.teacher_seconds), seconds(robot.training_seconds),
        seconds(robot.total_seconds), percent(robot.share_of_time), `${robot.waiting}`,
      ].map((text) => make('td', '', text)));
      row.title = robot.classes;
      return row;
    }));
  }
}

function ago(time) {
  return time < 90 ? `${5 * Math.round(time / 5)} s ago` : `${Math.round(time / 60)} min ago`;
}

function seconds(value) {
  if (value === null || value === undefined) return '–';
  return value < 1 ? `${Math.round(value * 1e3)} ms` : `${digits(value)} s`;
}

function percent(value) {
  return value === null || value === undefined ? '–' : `${Math.round(100 * value)} %`;
}

function bytes(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const [unit, size] = value >= 1e9 ? ['GB', 1e9] : value >= 1e6 ? ['MB', 1e6] : ['kB', 1e3];
  return `${digits(value / size)} ${unit}`;
}

// --- what is looked at ---------------------------------------------------------------------------

const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = cards.students.get(entry.target.dataset.node);
    if (card) card.visible = entry.isIntersecting;
  }
  look();
});

/** Tell the server what can be seen: nothing else is sent, nor painted by the robots. */
function look() {
  const views = document.hidden ? [] : [...cards.students.values()]
    .filter((card) => card.visible && card.view && !card.node?.gone)
    .map((card) => [card.name, card.view]);
  const text = JSON.stringify(views);
  if (text === look.last) return;
  look.last = text;
  send({ do: 'look', views });
}
document.addEventListener('visibilitychange', look);

// --- what the server says ------------------------------------------------------------------------

/** Add, update and remove the cards of one kind. */
function describe(kind, make, nodes) {
  const known = cards[kind], names = nodes.map((node) => node.name);
  for (const [name, card] of known) {
    if (!names.includes(name)) {
      card.gone();
      known.delete(name);
    }
  }
  const section = one(`#${kind}`);
  nodes.forEach((node, place) => {
    let card = known.get(node.name);
    if (!card) {
      card = make(node.name);
      known.set(node.name, card);
    }
    if (section.children[place] !== card.element) {
      section.insertBefore(card.element, section.children[place] ?? null);
    }
    card.describe(node);
  });
}

const received = {
  hello(message) {
    ({ series, read_only: readOnly } = message);
    one('#read-only').hidden = !readOnly;
    for (const kind of Object.keys(cards)) {
      for (const card of cards[kind].values()) card.gone();
      cards[kind].clear();
    }
    look.last = null;
  },
  nodes(message) {
    describe('students', (name) => new StudentCard(name), message.students);
    describe('teachers', (name) => new TeacherCard(name), message.teachers);
    one('#empty').hidden = message.students.length + message.teachers.length > 0;
    const counted = (list, word) => `${list.length} ${word}${list.length === 1 ? '' : 's'}`;
    one('#summary').textContent = `${counted(message.students, 'student')}, `
      + counted(message.teachers, 'teacher');
    look();
  },
  report(message) {
    last = message;
    for (const [name, report] of Object.entries(message.students)) {
      cards.students.get(name)?.report(report, message.now, message.samples[name]);
    }
    for (const [name, report] of Object.entries(message.teachers)) {
      cards.teachers.get(name)?.report(report, message.now);
    }
  },
  answer({ id, done, text }) {
    answers.get(id)?.({ done, text });
    answers.delete(id);
  },
  'no picture'({ student, view, text }) {
    const card = cards.students.get(student);
    if (card?.view !== view) return;
    card.picture.hidden = true;
    one('.no-picture', card.element).textContent = text;
  },
};

function onPicture(data) {
  const [first, second] = new Uint8Array(data, 0, 2);
  const text = (from, length) => new TextDecoder().decode(new Uint8Array(data, from, length));
  cards.students.get(text(2, first))?.show(
    text(2 + first, second), new Blob([new Uint8Array(data, 2 + first + second)]));
}

function say(text, level) {
  const badge = one('#connection');
  badge.textContent = text;
  badge.className = `badge ${level}`;
}

function connect() {
  const address = new URL('live', window.location.href);
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
  socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('open', () => say('live', 'good'));
  socket.addEventListener('message', ({ data }) => {
    if (typeof data !== 'string') return onPicture(data);
    const message = JSON.parse(data);
    return received[message.type]?.(message);
  });
  socket.addEventListener('close', () => {
    say('connection lost', 'error');
    for (const resolve of answers.values()) resolve({ done: false, text: 'the connection was lost' });
    answers.clear();
    setTimeout(connect, 1000);
  });
}

// --- light and dark ------------------------------------------------------------------------------

function choose(theme) {
  one('#dark').media = theme === 'dark' ? 'all' : 'not all';
}
const stored = localStorage.getItem('theme');
if (stored) choose(stored);
one('#theme').addEventListener('click', () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === 'dark';
  localStorage.setItem('theme', dark ? 'light' : 'dark');
  choose(localStorage.getItem('theme'));
});
window.addEventListener('resize', () => {
  for (const card of cards.students.values()) for (const plot of card.plots) plot.draw();
});

connect();
