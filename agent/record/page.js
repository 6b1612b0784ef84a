'use strict';
// Shows a run from the JSON in this page (agent/record/page_data.h, page_detail.h). All words of
// models and logs become text nodes; nothing here parses HTML.

const run = JSON.parse(document.getElementById('run').textContent);
const rows = run.experiments;
const $ = id => document.getElementById(id);

// An element: attributes, then children, which are elements or text.
function make(name, attributes, ...children) {
  const drawn = ['svg', 'path', 'line', 'circle', 'rect', 'text', 'title'].includes(name) ||
      (attributes || {}).drawn !== undefined;
  const space = drawn ? 'http://www.w3.org/2000/svg' : 'http://www.w3.org/1999/xhtml';
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes || {}))
    if (value !== undefined && key !== 'drawn') element.setAttribute(key, value);
  element.append(...children.filter(child => child !== undefined && child !== ''));
  return element;
}

const has = value => value !== undefined && value !== null;
const bpb = value => has(value) ? value.toFixed(6) : '';
const signed = (value, digits = 6) =>
    has(value) ? (value < 0 ? '\u2212' : '+') + Math.abs(value).toFixed(digits) : '';
const percent = (part, whole) => signed(100 * part / whole, 2) + ' %';
const short = value => has(value) ? Number(value.toPrecision(3)).toLocaleString('en-US') : '';
const clock = ms => has(ms) ?
    new Date(ms).toLocaleString(
        [],
        {weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit'}) :
    '';
const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const link = n => make('a', {href: '#' + n}, '#' + n);

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` :
                            `${(seconds / 86400).toFixed(1)} d`;
}

// Columns: [name, class, cell of a row]. On a phone a cell has its name beside it.
function table(columns, list) {
  const cell = (row, [name, kind, of]) => {
    const content = of(row);
    const children = Array.isArray(content) ? content : [content];
    return make(
        'td', {class: kind, 'data-name': kind === 'n' && name !== '#' ? name : undefined},
        ...children);
  };
  return make(
      'table', {},
      make(
          'thead', {},
          make('tr', {}, ...columns.map(([name, kind]) => make('th', {class: kind}, name)))),
      make('tbody', {}, ...list.map(row => make('tr', {}, ...columns.map(c => cell(row, c))))));
}

function section(id, title, ...content) {
  if (content.length) $(id).append(make('h2', {}, title), ...content);
}

// ------------------------------------------------------------------------------------------------
// The first screen: what changed, and whether it is real

const first = rows.find(row => row.status === 'keep');
const champion = has(run.champion) ? rows[run.champion] : undefined;
const wins = rows.filter(row => row.status === 'keep' && row !== first);

function headline() {
  if (!champion) return 'no baseline was measured yet';
  if (champion === first) return `val_bpb ${bpb(first.bpb)}: the baseline is still the best`;
  const gain = champion.bpb - first.bpb;
  return `val_bpb ${bpb(first.bpb)} \u2192 ${bpb(champion.bpb)} ` +
      `(${signed(gain)}, ${percent(gain, first.bpb)})`;
}

// What a difference is worth beside the spread of one measurement.
function besideNoise(difference) {
  if (!run.noise) return 'nothing was measured twice yet, so the noise is not known';
  const {sigma, freedom} = run.noise;
  const size = sigma > 0 ? `${short(Math.abs(difference) / sigma)} times the noise: ` : '';
  return `${size}two measurements of the same code differ by about ${short(sigma)} ` +
      `(one standard deviation, from ${plural(freedom, 'repeat')})`;
}

function evidence() {
  const proof = run.verified;
  if (proof) {
    const interval = `${signed(proof.mean)} in ${plural(proof.pairs, 'fresh pair')} of champion ` +
        `and baseline, 95 % interval ${signed(proof.low)} to ${signed(proof.high)}`;
    return proof.verified ? ['keep', 'verified', interval] :
                            ['crash', 'not proven', interval + ': it can be nothing'];
  }
  return ['warn', 'not verified yet', besideNoise(champion.bpb - first.bpb)];
}

function age() {
  const seconds = (Date.now() - run.written) / 1000;
  const written = `as of ${clock(run.written)}, ${duration(Math.max(0, seconds))} ago`;
  if (!run.alive) return [written + `; the run has ended: ${run.stopped}`, ''];
  if (run.paused) return [written + `; the run is paused: ${run.paused}`, 'warn'];
  if (seconds < 4 * run.pace + 120)
    return [written + '; the run is going on, this page follows it', ''];
  return [
    written + `; nothing new since, although an experiment takes about ${duration(run.pace)}` +
        `. Does it still run? build/agent status --tag ${run.tag}`,
    'warn'
  ];
}

function showTop() {
  const top = $('top'), counts = run.counts;
  document.title = `${run.tag}: ${headline()}`;
  const fresh = make('div', {class: 'soft', id: 'age'});
  const tell = () => {
    [fresh.textContent, fresh.className] = age();
  };
  tell();
  setInterval(tell, 5000);
  top.append(
      make('div', {class: 'soft'}, `autoresearch, run ${run.tag}, task ${run.task}`),
      make('h1', {}, headline()));
  if (champion && champion !== first) {
    const [kind, word, why] = evidence();
    top.append(make('p', {}, make('span', {class: 'badge ' + kind}, word), why));
    if (proofOfTest()) top.append(make('p', {class: 'soft'}, proofOfTest()));
    if (run.caution) top.append(make('p', {class: 'warn'}, run.caution));
  }
  const tiles =
      [[counts.kept, 'kept'], [counts.discarded, 'discarded'], [counts.crashed, 'crashed']];
  if (run.spent.total > 0) tiles.push([duration(run.spent.total), 'of work']);
  if (run.usd > 0) tiles.push(['$' + run.usd.toFixed(2), 'for models']);
  top.append(
      make(
          'div', {class: 'tiles'},
          ...tiles.map(([value, name]) => make('span', {}, make('b', {}, String(value)), name))),
      fresh);
}

function proofOfTest() {
  const test = run.verified && run.verified.test;
  if (!test) return undefined;
  return `test split, which no prompt mentions: ${bpb(test[0])} \u2192 ${bpb(test[1])} ` +
      `(${signed(test[1] - test[0])})`;
}

// The page follows a run that is alive, but not under the eyes of who reads a description.
function follow() {
  if (!run.alive) return;
  setInterval(() => {
    const reading = $('detail').open || document.hidden || String(getSelection());
    if (!reading) location.reload();
  }, 30000);
}

// ------------------------------------------------------------------------------------------------
// Charts: a scale for each direction, lines for the eye

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(factor => raw <= factor * power * 1.0000001);
  const marks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) marks.push(at);
  return {marks, digits: Math.min(6, Math.max(0, Math.ceil(-Math.log10(step))))};
}

class Frame {
  constructor(width, height, xs, ys) {
    Object.assign(
        this, {width, height, xs, ys, left: 62, right: width - 8, top: 10, bottom: height - 38});
    this.svg = make('svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img'});
  }
  x(value) {
    return this.left + (this.right - this.left) * (value - this.xs[0]) / (this.xs[1] - this.xs[0]);
  }
  y(value) {
    const share = (Math.min(value, this.ys[1]) - this.ys[0]) / (this.ys[1] - this.ys[0]);
    return this.bottom - (this.bottom - this.top) * share;
  }
  grid(name) {
    const vertical = ticks(...this.ys, 5), level = ticks(...this.xs, this.width < 500 ? 4 : 9);
    for (const at of vertical.marks)
      this.svg.append(
          make(
              'line',
              {class: 'grid', x1: this.left, x2: this.right, y1: this.y(at), y2: this.y(at)}),
          make(
              'text', {x: this.left - 6, y: this.y(at) + 4, 'text-anchor': 'end'},
              at.toFixed(vertical.digits)));
    for (const at of level.marks)
      this.svg.append(make(
          'text', {x: this.x(at), y: this.height - 20, 'text-anchor': 'middle'},
          at.toFixed(level.digits)));
    this.svg.append(make(
        'text', {x: (this.left + this.right) / 2, y: this.height - 4, 'text-anchor': 'middle'},
        name));
    return this;
  }
}

// What a few experiments that went badly would flatten: the axis ends above the baseline and nine
// tenths of the points, and what lies above sits on its edge.
function levels(shown) {
  const values = shown.flatMap(row => has(row.bpb) ? [row.bpb] : []).sort((a, b) => a - b);
  if (!values.length) return [0, 1];
  const top = Math.max(
      values[Math.floor(values.length * 0.9)] ?? values[values.length - 1],
      shown.includes(first) ? first.bpb : values[0]);
  const span = Math.max(top - values[0], 1e-4 * Math.max(1, Math.abs(top)));
  return [values[0] - 0.08 * span, top + 0.12 * span];
}

let byHours = false, zoom;

const placeOf = row => byHours ? ((row.to ?? row.from) - run.began) / 3600e3 : row.n;

function point(frame, row) {
  const x = frame.x(placeOf(row)), words = `#${row.n} ${row.status} ${bpb(row.bpb)} ${row.idea}`;
  let mark;
  if (!has(row.bpb)) {
    const y = frame.bottom - 6;
    mark = make('path', {class: 'point ' + row.status, d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8`});
  } else if (row.bpb > frame.ys[1]) {
    mark = make('path', {class: 'point ' + row.status, d: `M${x} ${frame.top}l5 8h-10z`});
  } else {
    mark = make('circle', {
      class: 'point ' + row.status,
      cx: x,
      cy: frame.y(row.bpb),
      r: row.status === 'keep' ? 5.5 : 4
    });
  }
  const y = has(row.bpb) ? frame.y(row.bpb) : frame.bottom - 6;
  return make(
      'a', {drawn: '', href: '#' + row.n, tabindex: -1, 'aria-label': words},
      make('circle', {class: 'hit', cx: x, cy: y, r: 11}), mark, make('title', {}, words));
}

function errorBar(frame, row) {
  const x = frame.x(placeOf(row)), sigma = run.noise.sigma;
  return make(
      'line',
      {class: 'error', x1: x, x2: x, y1: frame.y(row.bpb - sigma), y2: frame.y(row.bpb + sigma)});
}

function bestPath(frame, shown) {
  let path = '', before;
  for (const row of shown) {
    if (!has(row.best)) continue;
    const x = frame.x(placeOf(row)), y = frame.y(row.best);
    if (!path)
      path = `M${x} ${y}`;
    else if (row.best !== before)
      path += `H${x}V${y}`;
    before = row.best;
  }
  return make('path', {class: 'best', d: path && path + `H${frame.right}`});
}

function showChart() {
  const place = $('chart'), width = Math.max(280, place.clientWidth);
  const judged = rows.filter(row => row.status !== 'open');
  const all = [0, Math.max(1, ...judged.map(placeOf))];
  const margin = (all[1] - all[0]) * 0.015;
  const range = zoom ?? [all[0] - margin, all[1] + margin];
  const shown = judged.filter(row => placeOf(row) >= range[0] && placeOf(row) <= range[1]);
  const frame = new Frame(width, width < 500 ? 250 : 320, range, levels(shown));
  frame.grid(byHours ? 'hours since the run began' : 'experiment');
  frame.svg.setAttribute('aria-label', 'val_bpb of every experiment');
  frame.svg.append(bestPath(frame, shown));
  const kept = shown.filter(row => row.status === 'keep');
  if (run.noise) frame.svg.append(...kept.map(row => errorBar(frame, row)));
  frame.svg.append(
      ...shown.filter(row => row.status !== 'keep').map(row => point(frame, row)),
      ...kept.map(row => point(frame, row)));
  place.replaceChildren(frame.svg);
  $('whole').hidden = !zoom;
  $('axis').textContent = byHours ? 'by experiment' : 'by hours';
  letZoom(frame);
}

// A mouse drags over the experiments to look at; a finger scrolls the page as everywhere.
function letZoom(frame) {
  let from, zone;
  const at = event => Math.min(
      frame.right, Math.max(frame.left, event.clientX - frame.svg.getBoundingClientRect().left));
  const value = x =>
      frame.xs[0] + (frame.xs[1] - frame.xs[0]) * (x - frame.left) / (frame.right - frame.left);
  frame.svg.onpointerdown = event => {
    if (event.pointerType !== 'mouse' || event.target.closest('a')) return;
    from = at(event);
    frame.svg.append(
        zone = make(
            'rect',
            {class: 'zone', x: from, width: 0, y: frame.top, height: frame.bottom - frame.top}));
    frame.svg.setPointerCapture(event.pointerId);
  };
  frame.svg.onpointermove = event => {
    if (!zone) return;
    zone.setAttribute('x', Math.min(from, at(event)));
    zone.setAttribute('width', Math.abs(at(event) - from));
  };
  frame.svg.onpointerup = event => {
    if (!zone) return;
    const ends = [value(from), value(at(event))].sort((a, b) => a - b);
    if (Math.abs(at(event) - from) > 8) zoom = ends;
    showChart();
  };
}

function startChart() {
  $('legend').append(
      'val_bpb, lower is better: ', make('b', {class: 'keep'}, '\u25cf'), ' kept, ',
      '\u25cb discarded, \u25b3 above the axis, ', make('b', {class: 'crash'}, '\u00d7'), ' crash',
      run.noise ? '; bars: one standard deviation' : '');
  $('whole').onclick = () => {
    zoom = undefined;
    showChart();
  };
  $('axis').onclick = () => {
    byHours = !byHours;
    zoom = undefined;
    showChart();
  };
  addEventListener('resize', showChart);
  showChart();
}

// ------------------------------------------------------------------------------------------------
// The sections below

const ideaOf = row =>
    [make('a', {href: '#' + row.n}, row.idea || 'no description'),
     row.reason ? make('small', {class: row.status}, row.reason) : ''];

function stepsOf(row) {
  const parent = rows[row.parent];
  if (!row.steps) return '';
  return parent && parent.steps && parent.steps !== row.steps ?
      `${row.steps} (before ${parent.steps})` :
      String(row.steps);
}

function speedOf(row) {
  return row.ratio ? `${short(row.speed)} (${signed(100 * (row.ratio - 1), 0)} %)` :
                     short(row.speed);
}

// How the machine was, if there is something to say.
function machineOf(row) {
  const words = [];
  if (row.disturbed) words.push(`repeated ${plural(row.disturbed, 'time')}: disturbed`);
  if (row.noisy) words.push('disturbed: ' + row.noisy);
  if (row.cores && row.load > row.cores + 0.5)
    words.push(`load ${short(row.load)} on ${plural(row.cores, 'core')}`);
  if (row.pressure > 0.1)
    words.push(`waited for a core ${Math.round(100 * row.pressure)} % of the time`);
  return words.join('; ');
}

const numbered = ['#', 'n', row => link(row.n)];

function againOf(row) {
  if (!row.again.length) return '';
  const all = [row.bpb, ...row.again];
  return `again ${row.again.map(bpb).join(', ')}; mean ${
      bpb(all.reduce((a, b) => a + b) / all.length)}`;
}

function proofOf(row) {
  const proof = run.verified && run.verified.changes[row.n];
  return has(proof) ? proof ? 'verified' : 'not proven' : 'not verified yet';
}

function showWins() {
  if (!wins.length)
    return section(
        'wins', 'What won',
        make('p', {class: 'soft'}, 'Nothing was better than the baseline yet.'));
  const noise = run.noise && run.noise.sigma > 0 ? run.noise.sigma : undefined;
  section(
      'wins', 'What won',
      table(
          [
            numbered,
            [
              'idea', 'idea',
              row =>
                  [make('a', {href: '#' + row.n}, row.idea),
                   make(
                       'small', {},
                       [proofOf(row), machineOf(row), againOf(row)].filter(Boolean).join('; '))]
            ],
            ['gain', 'n', row => signed(row.change)],
            ['\u00d7 noise', 'n', row => noise ? short(Math.abs(row.change) / noise) : ''],
            ['won', '', row => row.won || 'not told by its curve'], ['steps', 'n', stepsOf],
            ['tokens/s', 'n', speedOf],
            ['min', 'n', row => has(row.minutes) ? row.minutes.toFixed(1) : '']
          ],
          [...wins].sort((a, b) => a.change - b.change)));
}

// Why an experiment was not kept, in the words that others share with it.
function groupOf(row) {
  if (row.status === 'crash')
    return 'crash: ' +
        (row.reason.replace(/[-+]?\d[\d.,e+-]*/g, '\u2026').slice(0, 90) || 'no reason told');
  if (!run.noise) return 'measured no better';
  return row.change <= run.noise.sigma ? 'equal within the noise' : 'worse by more than the noise';
}

function showFailed() {
  const groups = new Map();
  for (const row of rows) {
    if (row.status !== 'discard' && row.status !== 'crash') continue;
    groups.set(groupOf(row), [...(groups.get(groupOf(row)) ?? []), row]);
  }
  const links = list => list.flatMap(row => [link(row.n), ' ']);
  const list = [...groups].sort((a, b) => b[1].length - a[1].length);
  const content = list.length ?
      [table(
          [
            ['how often', 'n', group => String(group[1].length)],
            ['why', 'idea', group => group[0]],
            [
              'experiments', '',
              group =>
                  [...links(group[1].slice(0, 12)),
                   group[1].length > 12 ? `and ${group[1].length - 12} more` : '']
            ],
          ],
          list)] :
      [];
  for (const [who, count] of Object.entries(run.came_to_nothing))
    content.push(make('p', {}, `${plural(count, 'proposal')} of ${who} never became a candidate.`));
  if (run.last_refusal) content.push(make('p', {class: 'soft'}, 'The last: ' + run.last_refusal));
  section('failed', 'What failed, and why', ...content);
}

function showAreas() {
  const areas = new Map();
  for (const row of rows.slice(1)) {
    if (row.status === 'open') continue;
    for (const name of row.areas) areas.set(name, [...(areas.get(name) ?? []), row]);
  }
  const kept = list => list.filter(row => row.status === 'keep').length;
  const dead = [...areas]
                   .filter(([, list]) => list.length >= 3 && !kept(list))
                   .sort((a, b) => b[1].length - a[1].length);
  if (dead.length)
    section('areas', 'Dead ends: parts that were tried three times or more and never won',
    table([['part', 'idea', area => area[0]], ['tried', 'n', area => String(area[1].length)],
           ['closest', 'n', area => signed(area[1].reduce((best, row) =>
             has(row.change) && !(best <= row.change) ? row.change : best, undefined))],
           ['experiments', '', area => area[1].slice(0, 12).flatMap(row => [link(row.n), ' '])]], dead));
}

// What shares most words with what has won comes first; of equal ones the latest.
function showNext() {
  const words = text => new Set(text.toLowerCase().match(/[\p{L}\d]{4,}/gu) ?? []);
  const won = words(wins.flatMap(row => [row.idea, ...row.areas]).join(' '));
  const shared = line => [...words(line)].filter(word => won.has(word)).length;
  const ranked =
      [...run.next].reverse().map(line => [shared(line), line]).sort((a, b) => b[0] - a[0]);
  if (ranked.length)
    section(
        'next', 'Open questions that models noted, those nearest to what has won first',
        make('ul', {}, ...ranked.map(([, line]) => make('li', {}, line))));
}

function showSpent() {
  const colours = [
    'var(--keep)', 'var(--best)', 'var(--warn)', '#8f6fd6', 'var(--crash)', 'var(--discard)',
    'var(--line)'
  ];
  const total = run.spent.total;
  const parts = run.spent.parts.filter(([, seconds]) => seconds > 0.005 * total);
  const content = [];
  if (total > 0)
    content.push(
        make(
            'div', {class: 'share'},
            ...parts.map(
                ([, seconds], i) =>
                    make('i', {style: `flex:${seconds / total};background:${colours[i]}`}))),
        make(
            'p', {},
            ...parts.flatMap(
                ([name, seconds], i) =>
                    [make('span', {class: 'key', style: 'background:' + colours[i]}),
                     `${name} ${Math.round(100 * seconds / total)} % (${
                         duration(seconds)})\u2003`])));
  if (run.money) content.push(make('p', {}, 'models: ' + run.money));
  if (run.proposers) content.push(make('p', {}, 'proposed by: ' + run.proposers));
  section('spent', 'Where time and money went', ...content);
}

function showAll() {
  section(
      'all', 'All experiments',
      table(
          [
            numbered, ['status', '', row => make('span', {class: row.status}, row.status)],
            ['val_bpb', 'n', row => bpb(row.bpb)], ['change', 'n', row => signed(row.change)],
            ['steps', 'n', row => row.steps ? String(row.steps) : ''],
            ['tokens/s', 'n', row => short(row.speed)],
            ['min', 'n', row => has(row.minutes) ? row.minutes.toFixed(1) : ''],
            [
              'idea', 'idea',
              row =>
                  [...ideaOf(row),
                   machineOf(row) ? make('small', {class: 'warn'}, machineOf(row)) : '']
            ]
          ],
          rows));
}

function showFacts() {
  const list = make('dl', {});
  for (const [name, value] of run.facts)
    list.append(
        make('dt', {}, name),
        make('dd', {}, name.startsWith('to restore') ? make('code', {}, value) : value));
  section('facts', 'The run', list);
}

// ------------------------------------------------------------------------------------------------
// One experiment

const detailOf = n => $('d' + n) ? JSON.parse($('d' + n).textContent) : {};

function curves(row, detail) {
  if (!detail.curve || detail.curve.length < 2) return [];
  const parent = rows[row.parent], other = parent ? detailOf(parent.n).curve ?? [] : [];
  const points = [...detail.curve, ...other];
  const losses = points.map(p => p[2]).sort((a, b) => a - b);
  const high = losses[Math.floor(losses.length * 0.95)], low = losses[0];
  const frame = new Frame(
                    Math.min(800, $('detail').clientWidth - 60), 240,
                    [0, Math.max(...points.map(p => p[0]), 1)], [low, Math.max(high, low + 1e-3)])
                    .grid('step');
  const path = curve =>
      curve.map((p, i) => `${i ? 'L' : 'M'}${frame.x(p[0])} ${frame.y(p[2])}`).join('');
  if (other.length > 1) frame.svg.append(make('path', {class: 'other', d: path(other)}));
  frame.svg.append(make('path', {class: 'best', d: path(detail.curve)}));
  return [
    make(
        'h3', {},
        `training loss${other.length > 1 ? `, dashed: the champion then, #${parent.n}` : ''}`),
    frame.svg
  ];
}

function diffLines(text) {
  const kind = line => /^(\+\+\+|---|@@)/.test(line) ? 'place' :
      line[0] === '+'                                ? 'added' :
      line[0] === '-'                                ? 'gone' :
                                                       '';
  return make(
      'pre', {class: 'diff'},
      ...text.split('\n').map(line => make('span', {class: kind(line)}, line || ' ')));
}

function measurements(row) {
  const figures = [
    ['val_bpb', bpb(row.bpb)], ['against the best before', signed(row.change)],
    ['measured again', againOf(row)], ['won', row.status === 'keep' ? row.won : ''],
    ['steps', stepsOf(row)], ['tokens/s', speedOf(row)],
    ['memory', has(row.gb) ? row.gb.toFixed(1) + ' GB' : ''],
    ['training', has(row.minutes) ? row.minutes.toFixed(1) + ' min' : ''],
    ['machine', machineOf(row)], ['proposed by', row.by], ['parts', row.areas.join(', ')],
    ['constants', row.constants.join(', ')], ['began', clock(row.from)], ['judged', clock(row.to)],
    ['commit', row.commit]
  ];
  const list = make('dl', {});
  for (const [name, value] of figures)
    if (value) list.append(make('dt', {}, name), make('dd', {}, value));
  return list;
}

function showDetail(row) {
  const detail = detailOf(row.n), dialog = $('detail');
  const step = (n, words) => rows[n] ? make('a', {href: '#' + n}, words) : '';
  const texts = (detail.texts ?? [])
                    .flatMap(
                        ([name, text]) =>
                            [make('h3', {}, name),
                             name.endsWith('.diff') ? diffLines(text) : make('pre', {}, text)]);
  dialog.replaceChildren(
      make(
          'div', {class: 'bar'}, make('span', {class: row.status}, `#${row.n} ${row.status}`),
          step(row.n - 1, '\u2190 before'), step(row.n + 1, 'next \u2192'),
          make('a', {href: '#', id: 'close'}, 'close')),
      make('h2', {}, row.idea || 'no description'), row.why ? make('p', {}, row.why) : '',
      row.reason ? make('p', {class: row.status}, row.reason) : '', measurements(row));
  if (!dialog.open) dialog.showModal();
  dialog.append(...curves(row, detail), ...texts);
  if (detail.folder) dialog.append(make('p', {class: 'soft'}, `All of it: ${detail.folder}`));
  dialog.scrollTop = 0;
}

function goToHash() {
  const row = /^#\d+$/.test(location.hash) ? rows[Number(location.hash.slice(1))] : undefined;
  if (row)
    showDetail(row);
  else if ($('detail').open)
    $('detail').close();
}

function startDetails() {
  const dialog = $('detail');
  const leave = () => {
    if (location.hash) history.replaceState(null, '', location.pathname + location.search);
  };
  dialog.onclose = leave;
  dialog.onclick = event => {
    if (event.target !== dialog && event.target.id !== 'close') return;
    event.preventDefault();
    dialog.close();
  };
  addEventListener('hashchange', goToHash);
  goToHash();
}

showTop();
showWins();
showFailed();
showAreas();
showNext();
showSpent();
showAll();
showFacts();
startChart();
startDetails();
follow();
