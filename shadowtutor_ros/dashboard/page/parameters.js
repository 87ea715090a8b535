// The parameters of a node as controls, each with the range that the node says.

const STEPS = 1000;

/** Where a range spans orders of magnitude a slider moves by factors. */
function scaleOf(low, high) {
  if (low > 0 && high / low >= 1000) {
    return {
      to: (value) => Math.log(value / low) / Math.log(high / low),
      from: (part) => low * (high / low) ** part,
    };
  }
  if (low === 0 && high >= 1000) {
    return {
      to: (value) => Math.log1p(value) / Math.log1p(high),
      from: (part) => Math.expm1(part * Math.log1p(high)),
    };
  }
  return {
    to: (value) => (value - low) / (high - low),
    from: (part) => low + part * (high - low),
  };
}

function rounded(value, integer) {
  return integer ? Math.round(value) : Number(value.toPrecision(3));
}

let count = 0;

class Row {
  constructor(parameter, set) {
    this.set = set;
    this.element = document.getElementById('row').content.firstElementChild.cloneNode(true);
    this.element.dataset.parameter = parameter.name;
    this.name = this.element.querySelector('.name');
    this.words = this.element.querySelector('.words');
    this.name.textContent = parameter.name;
    this.element.querySelector('.text').textContent = parameter.text;
    this.id = `parameter-${count++}`;
    this.name.htmlFor = this.id;
    this.make(parameter);
    this.show(parameter);
  }

  make(parameter) {
    const control = this.element.querySelector('.control');
    const number = parameter.type === 'integer' || parameter.type === 'double';
    if (parameter.choices.length) {
      this.input = document.createElement('select');
      this.input.append(...parameter.choices.map((choice) => new Option(choice, choice)));
    } else {
      this.input = document.createElement('input');
      this.input.type = parameter.type === 'bool' ? 'checkbox' : number ? 'number' : 'text';
      this.input.step = parameter.type === 'integer' ? 1 : 'any';
    }
    this.input.id = this.id;
    this.input.addEventListener('change', () => this.send(
      this.input.type === 'checkbox' ? this.input.checked : this.input.value));
    if (number && parameter.low !== null) {
      const { low, high } = parameter, integer = parameter.type === 'integer';
      this.scale = scaleOf(low, high);
      this.slider = document.createElement('input');
      this.slider.type = 'range';
      this.slider.max = integer ? Math.min(STEPS, high - low) : STEPS;
      this.slider.setAttribute('aria-label', parameter.name);
      this.slider.title = `${low} to ${high}`;
      const value = () => rounded(
        this.scale.from(this.slider.value / this.slider.max), integer);
      this.slider.addEventListener('input', () => { this.input.value = value(); });
      this.slider.addEventListener('change', () => this.send(value()));
      control.append(this.slider);
    }
    control.append(this.input);
  }

  async send(value) {
    this.words.textContent = '';
    const answer = await this.set(value);
    this.words.classList.toggle('failed', !answer.done);
    this.words.textContent = answer.text;
    if (!answer.done) this.show(this.parameter, true);
  }

  show(parameter, always = false) {
    this.parameter = parameter;
    const active = document.activeElement;
    if (!always && (active === this.input && this.input.type !== 'checkbox')) return;
    const { value } = parameter;
    if (this.input.type === 'checkbox') this.input.checked = value;
    else if (Array.isArray(value)) {
      this.input.value = value.filter(Boolean).join(value.some((one) => one.includes(':')) ? '; ' : ', ');
    } else this.input.value = value;
    if (this.slider && (always || active !== this.slider || !this.slider.matches(':active'))) {
      this.slider.value = this.slider.max * this.scale.to(value);
    }
  }
}

export class Parameters {
  /**
   * @param element that gets the rows.
   * @param set is called with a name and a value; resolves to the answer.
   */
  constructor(element, set) {
    this.element = element;
    this.set = set;
    this.rows = new Map();
    this.shape = '';
  }

  show(parameters, readOnly) {
    const shape = JSON.stringify(parameters.map((one) => ({ ...one, value: undefined })));
    if (shape !== this.shape) {
      this.shape = shape;
      this.rows = new Map(parameters.map((one) => [
        one.name, new Row(one, (value) => this.set(one.name, value))]));
      this.element.replaceChildren(...[...this.rows.values()].map((row) => row.element));
    }
    for (const parameter of parameters) {
      const row = this.rows.get(parameter.name);
      row.show(parameter);
      for (const input of [row.input, row.slider]) if (input) input.disabled = readOnly;
    }
  }
}
