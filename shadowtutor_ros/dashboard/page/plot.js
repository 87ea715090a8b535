// A small plot over time on a canvas: up to two lines, and a band between two bounds.

const SPAN = 300;  // seconds that are shown, at most
const SHORTEST = 30;

/** Write a number with three digits. */
export function digits(value) {
  if (value === null || value === undefined) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  return value.toFixed(size >= 100 || value === Math.round(value) && size >= 1 ? 0
    : size >= 10 ? 1 : 2);
}

export class Plot {
  /**
   * @param element of the template.
   * @param options name; unit; scale: factor from what is sent to the unit; lines: indices of
   *   series; labels: of the lines; band: indices of the lower and the upper bound; top, most: the
   *   least and the greatest upper end of the axis.
   */
  constructor(element, options) {
    this.element = element;
    this.options = options;
    this.canvas = element.querySelector('canvas');
    this.samples = [];
    this.at = null;
    element.querySelector('.name').textContent = options.name;
    this.write([]);
    this.canvas.addEventListener('pointermove', (event) => {
      this.at = event.offsetX;
      this.draw();
    });
    this.canvas.addEventListener('pointerleave', () => {
      this.at = null;
      this.draw();
    });
  }

  show(samples, now) {
    this.samples = samples;
    this.now = now;
    this.draw();
  }

  value(sample, index) {
    const value = sample[index + 1] ?? null;
    return value === null ? null : value * this.options.scale;
  }

  draw() {
    const { canvas, options } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !this.samples.length) return;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.element);
    const color = (name) => style.getPropertyValue(name);

    const span = Math.min(SPAN, Math.max(SHORTEST, this.now - this.samples[0][0]));
    const begin = this.now - span;
    // One before the beginning, so that the line reaches the edge.
    const first = this.samples.findIndex((sample) => sample[0] >= begin);
    const samples = this.samples.slice(Math.max(0, first - 1));
    const lines = options.lines.map((index) => samples.map((sample) => this.value(sample, index)));
    const highest = Math.max(0, ...lines.flat());
    let top = Math.min(options.most ?? Infinity, Math.max(options.top, highest * 1.1));
    const last = samples[samples.length - 1];
    const bounds = options.band && options.band.map((index) => this.value(last, index));
    // Bounds far above what is measured would flatten it: then the band leaves at the top.
    if (bounds && bounds[1] !== null) {
      top = Math.max(top, Math.min(bounds[1] * 1.1, highest * 3 || bounds[1] * 1.1));
    }
    top = niceTop(top);

    const left = 30, bottom = height - 13, above = 4;
    const x = (time) => left + (width - left - 2) * (time - begin) / span;
    const y = (value) => bottom - (bottom - above) * Math.min(value / top, 1.05);
    context.font = `10px ${style.fontFamily}`;
    context.fillStyle = color('--soft');
    context.strokeStyle = color('--line');
    context.lineWidth = 1;
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const part of [0, 0.5, 1]) {
      const place = Math.round(y(top * part)) + 0.5;
      context.beginPath();
      context.moveTo(left, place);
      context.lineTo(width, place);
      context.stroke();
      context.fillText(digits(top * part), left - 4, Math.min(Math.max(place, 6), bottom - 1));
    }
    context.textBaseline = 'alphabetic';
    context.textAlign = 'left';
    context.fillText(`−${span >= 120 ? `${Math.round(span / 60)} min` : `${Math.round(span)} s`}`,
      left, height - 2);
    context.textAlign = 'right';
    context.fillText('now', width - 1, height - 2);

    context.save();
    context.beginPath();
    context.rect(left, 0, width - left, bottom + 1);
    context.clip();
    if (options.band) this.drawBand(context, samples, x, y, color);
    lines.forEach((line, place) => {
      context.strokeStyle = color(place ? '--plot-2' : '--plot');
      context.lineWidth = 1.6;
      context.lineJoin = 'round';
      context.beginPath();
      let drawing = false;
      line.forEach((value, at) => {
        if (value === null) {
          drawing = false;
        } else if (drawing) {
          context.lineTo(x(samples[at][0]), y(value));
        } else {
          context.moveTo(x(samples[at][0]), y(value));
          drawing = true;
        }
      });
      context.stroke();
    });
    let chosen = last;
    if (this.at !== null) {
      const time = begin + span * (this.at - left) / (width - left - 2);
      chosen = samples.reduce((best, sample) =>
        Math.abs(sample[0] - time) < Math.abs(best[0] - time) ? sample : best);
      context.strokeStyle = color('--soft');
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x(chosen[0]), 0);
      context.lineTo(x(chosen[0]), bottom);
      context.stroke();
    }
    context.restore();
    this.write(chosen);
  }

  drawBand(context, samples, x, y, color) {
    const [lower, upper] = this.options.band;
    const known = samples.filter((sample) => sample[lower + 1] !== null && sample[upper + 1] !== null);
    if (!known.length) return;
    const edge = (index) => known.map((sample) => [x(sample[0]), y(this.value(sample, index))]);
    const low = edge(lower), high = edge(upper);
    context.fillStyle = color('--band');
    context.beginPath();
    [...high, ...low.slice().reverse()].forEach((point) => context.lineTo(...point));
    context.fill();
    context.strokeStyle = color('--band-line');
    context.lineWidth = 1;
    context.setLineDash([3, 3]);
    for (const points of [low, high]) {
      context.beginPath();
      points.forEach((point) => context.lineTo(...point));
      context.stroke();
    }
    context.setLineDash([]);
  }

  write(sample) {
    const { options } = this;
    const value = this.element.querySelector('.value');
    const parts = options.lines.map((index, place) => {
      const part = document.createElement('span');
      part.className = place ? 'second' : 'first';
      part.textContent = (options.labels ? `${options.labels[place]} ` : '')
        + digits(this.value(sample, index));
      return part;
    });
    value.replaceChildren(...parts.flatMap((part) => [part, ' ']), options.unit);
    let hint = '';
    if (options.band) {
      const [lower, upper] = options.band.map((index) => this.value(sample, index));
      hint = lower === null || upper === null ? 'bounds: with the first updates'
        : `bounds ${digits(lower)} to ${digits(upper)} ${options.unit}`;
    }
    this.element.querySelector('.name').textContent = options.name
      + (this.at === null ? '' : ` ${Math.round(this.now - sample[0])} s ago`);
    this.element.querySelector('.hint').textContent = hint;
  }
}

/** Return the next of 1, 2, 5, 10, … at or above a number. */
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.999);
}
