'use strict';
// Shows a run from the JSON in this page (agent/record/page.cpp, page_detail.h). All words of
// models and logs become text nodes; nothing here parses HTML.

const run = JSON.parse(document.getElementById('run').textContent);
const rows = run.experiments;
const $ = id => document.getElementById(id);
const has = value => value !== undefined && value !== null;

// html.p({class: 'soft'}, 'words', element, [more]) is such an element.
const elements = space => new Proxy({}, {
  get: (_, name) => (attributes = {}, ...children) => {
    const element = document.createElementNS('http://www.w3.org/' + space, name);
    for (const [key, value] of Object.entries(attributes))
      if (value !== undefined) element.setAttribute(key, value);
    element.append(...children.flat().filter(child => has(child) && child !== ''));
    return element;
  }
});
const html = elements('1999/xhtml'), svg = elements('2000/svg');

const bpb = value => has(value) ? value.toFixed(6) : '';
const signed = (value, digits = 6) =>
  has(value) ? (value < 0 ? '\u2212' : '+') + Math.abs(value).toFixed(digits) : '';
const percent = (part, whole) => signed(100 * part / whole, 2) + ' %';
const short = value => has(value) ? Number(value.toPrecision(3)).toLocaleString('en-US') : '';
const clock = ms => has(ms) ? new Date(ms).toLocaleString([], {
  weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit'}) : '';
const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const link = (n, words = '#' + n) => html.a({href: '#' + n}, words);

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}

// Columns: [name, class, content of a row's cell]. On a phone a figure has its name beside it.
function table(columns, list) {
  const cell = (row, [name, kind, of]) =>
    html.td({class: kind, 'data-name': kind === 'n' && name !== '#' ? name : undefined}, of(row));
  return html.table({},
    html.thead({}, html.tr({}, columns.map(([name, kind]) => html.th({class: kind}, name)))),
    html.tbody({}, list.map(row => html.tr({}, columns.map(column => cell(row, column))))));
}

// Pairs of a name and what it is; those that say nothing are left out.
const facts = pairs => html.dl({}, pairs.filter(([, value]) => has(value) && value !== '')
  .flatMap(([name, value]) => [html.dt({}, name), html.dd({}, value)]));

function section(id, title, ...content) {
  if (content.length) $(id).append(html.h2({}, title), ...content);
}

// ------------------------------------------------------------------------------------------------
// The first screen: what changed, and whether it is real

const first = rows.find(row => row.status === 'keep');
const champion = has(run.champion) ? rows[run.champion] : undefined;
const wins = rows.filter(row => row.status === 'keep' && row !== first);

function headline() {
  if (!champion) return 'no baseline was measured yet';
  if (champion === first) return `val_bpb ${bpb(first.bpb)}: the baseline is still the best`;
  const gain = run.best - first.bpb;
  return `val_bpb ${bpb(first.bpb)} \u2192 ${bpb(run.best)} ` +
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
  const proof = run.proof, kind = {'verified': 'keep', 'not proven': 'crash'}[run.certainty];
  if (!kind)
    return ['warn', besideNoise(run.best - first.bpb) + (proof ?
      `; #${run.champion} was kept after the proof of commit ${proof.of}` : '')];
  if (proof.problem) return [kind, proof.problem];
  return [kind, `${signed(proof.mean)} in ${plural(proof.pairs, 'fresh pair')} of champion ` +
    `and baseline, 95 % interval ${signed(proof.low)} to ${signed(proof.high)}` +
    (run.certainty === 'verified' ? '' : ': it can be nothing')];
}

function onTest() {
  return has(first.test) && has(run.test) && 'test split, which no prompt mentions: ' +
    `${bpb(first.test)} \u2192 ${bpb(run.test)} (${signed(run.test - first.test)})`;
}

function age() {
  const seconds = (Date.now() - run.written) / 1000;
  const written = `as of ${clock(run.written)}, ${duration(Math.max(0, seconds))} ago; `;
  if (!run.alive) return [written + `the run has ended: ${run.stopped}`, ''];
  if (run.paused) return [written + `the run is paused: ${run.paused}`, 'warn'];
  if (seconds < 4 * run.pace + 120)
    return [written + 'the run is going on, this page follows it', ''];
  return [`${written}nothing new since, although an experiment takes about ${duration(run.pace)}` +
    `. Does it still run? build/agent status --tag ${run.tag}`, 'warn'];
}

function showTop() {
  const top = $('top'), counts = run.counts, fresh = html.div();
  document.title = `${run.tag}: ${headline()}`;
  const tell = () => [fresh.textContent, fresh.className] = age();
  tell();
  setInterval(tell, 5000);
  top.append(html.div({class: 'soft'}, `autoresearch, run ${run.tag}, task ${run.task}`),
    html.h1({}, headline()));
  if (champion && champion !== first) {
    const [kind, why] = evidence();
    top.append(html.p({}, html.span({class: 'badge ' + kind}, run.certainty), why));
    if (onTest()) top.append(html.p({class: 'soft'}, onTest()));
    for (const warning of [run.overfit, run.caution])
      if (warning) top.append(html.p({class: 'warn'}, warning));
  }
  const tiles =
    [[counts.kept, 'kept'], [counts.discarded, 'discarded'], [counts.crashed, 'crashed']];
  if (run.spent.total > 0) tiles.push([duration(run.spent.total), 'of work']);
  if (run.usd > 0) tiles.push(['$' + run.usd.toFixed(2), 'for models']);
  top.append(html.div({class: 'tiles'},
    tiles.map(([value, name]) => html.span({}, html.b({}, value), name))), fresh);
}

// The page follows a run that is alive, but not under the eyes of who reads a description.
function follow() {
  if (run.alive) setInterval(() => {
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
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step))));
  return marks.map(at => [at, at.toFixed(digits)]);
}

class Frame {
  constructor(width, height, xs, ys, name) {
    Object.assign(this, {xs, ys, left: 62, right: width - 8, top: 10, bottom: height - 38});
    this.svg = svg.svg({viewBox: `0 0 ${width} ${height}`, height, role: 'img'});
    for (const [at, words] of ticks(...ys, 5))
      this.svg.append(
        svg.line({class: 'grid', x1: this.left, x2: this.right, y1: this.y(at), y2: this.y(at)}),
        svg.text({x: this.left - 6, y: this.y(at) + 4, 'text-anchor': 'end'}, words));
    const below = (x, y, words) => svg.text({x, y, 'text-anchor': 'middle'}, words);
    for (const [at, words] of ticks(...xs, width < 500 ? 4 : 9))
      this.svg.append(below(this.x(at), height - 20, words));
    this.svg.append(below((this.left + this.right) / 2, height - 4, name));
  }
  x(value) {
    return this.left + (this.right - this.left) * (value - this.xs[0]) / (this.xs[1] - this.xs[0]);
  }
  y(value) {
    const share = (Math.min(value, this.ys[1]) - this.ys[0]) / (this.ys[1] - this.ys[0]);
    return this.bottom - (this.bottom - this.top) * share;
  }
}

// What a few experiments that went badly would flatten: the axis ends above the baseline and nine
// tenths of the points, and what lies above sits on its edge.
function levels(shown) {
  const values = shown.flatMap(row => has(row.bpb) ? [row.bpb] : []).sort((a, b) => a - b);
  if (!values.length) return [0, 1];
  const top = Math.max(values[Math.floor(values.length * 0.9)],
    shown.includes(first) ? first.bpb : values[0]);
  const span = Math.max(top - values[0], 1e-4 * Math.max(1, Math.abs(top)));
  return [values[0] - 0.08 * span, top + 0.12 * span];
}

let byHours = false, zoom;

const placeOf = row => byHours ? ((row.to ?? row.from) - run.began) / 3600e3 : row.n;

function point(frame, row) {
  const x = frame.x(placeOf(row)), y = has(row.bpb) ? frame.y(row.bpb) : frame.bottom - 6;
  const words = `#${row.n} ${row.status} ${bpb(row.bpb)} ${row.idea}`;
  const kind = 'point ' + row.status;
  const mark = !has(row.bpb) ? svg.path({class: kind, d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8`}) :
    row.bpb > frame.ys[1] ? svg.path({class: kind, d: `M${x} ${frame.top}l5 8h-10z`}) :
    svg.circle({class: kind, cx: x, cy: y, r: row.status === 'keep' ? 5.5 : 4});
  return svg.a({href: '#' + row.n, tabindex: -1, 'aria-label': words},
    svg.circle({class: 'hit', cx: x, cy: y, r: 11}), mark, svg.title({}, words));
}

function errorBar(frame, row) {
  const x = frame.x(placeOf(row)), y = sigmas => frame.y(row.bpb + sigmas * run.noise.sigma);
  return svg.line({class: 'error', x1: x, x2: x, y1: y(-1), y2: y(1)});
}

function bestPath(frame, shown) {
  const kept = shown.filter(row => has(row.best));
  const path = kept.map((row, i) => {
    const x = frame.x(placeOf(row)), y = frame.y(row.best);
    return i === 0 ? `M${x} ${y}` : row.best !== kept[i - 1].best ? `H${x}V${y}` : '';
  });
  return svg.path({class: 'best', d: path.length ? path.join('') + `H${frame.right}` : ''});
}

function showChart() {
  const place = $('chart'), width = Math.max(280, place.clientWidth);
  const judged = rows.filter(row => row.status !== 'open');
  const last = Math.max(1, ...judged.map(placeOf)), margin = last * 0.015;
  const range = zoom ?? [-margin, last + margin];
  const shown = judged.filter(row => placeOf(row) >= range[0] && placeOf(row) <= range[1]);
  const frame = new Frame(width, width < 500 ? 250 : 320, range, levels(shown),
    byHours ? 'hours since the run began' : 'experiment');
  const kept = shown.filter(row => row.status === 'keep');
  const others = shown.filter(row => row.status !== 'keep');
  frame.svg.setAttribute('aria-label', 'val_bpb of every experiment');
  frame.svg.append(bestPath(frame, shown),
    ...(run.noise ? kept.map(row => errorBar(frame, row)) : []),
    ...[...others, ...kept].map(row => point(frame, row)));
  place.replaceChildren(frame.svg);
  $('whole').hidden = !zoom;
  $('axis').textContent = byHours ? 'by experiment' : 'by hours';
  letZoom(frame);
}

// A mouse drags over the experiments to look at; a finger scrolls the page as everywhere.
function letZoom(frame) {
  let from, zone;
  const at = event => Math.min(frame.right,
    Math.max(frame.left, event.clientX - frame.svg.getBoundingClientRect().left));
  const value = x =>
    frame.xs[0] + (frame.xs[1] - frame.xs[0]) * (x - frame.left) / (frame.right - frame.left);
  frame.svg.onpointerdown = event => {
    if (event.pointerType !== 'mouse' || event.target.closest('a')) return;
    from = at(event);
    zone = svg.rect({class: 'zone', x: from, width: 0, y: frame.top,
      height: frame.bottom - frame.top});
    frame.svg.append(zone);
    frame.svg.setPointerCapture(event.pointerId);
  };
  frame.svg.onpointermove = event => {
    if (!zone) return;
    zone.setAttribute('x', Math.min(from, at(event)));
    zone.setAttribute('width', Math.abs(at(event) - from));
  };
  frame.svg.onpointerup = event => {
    if (!zone) return;
    if (Math.abs(at(event) - from) > 8)
      zoom = [value(from), value(at(event))].sort((a, b) => a - b);
    showChart();
  };
}

function startChart() {
  $('legend').append('val_bpb, lower is better: ', html.b({class: 'keep'}, '\u25cf'), ' kept, ',
    '\u25cb discarded, \u25b3 above the axis, ', html.b({class: 'crash'}, '\u00d7'), ' crash',
    run.noise ? '; bars: one standard deviation' : '');
  const showWhole = () => {
    zoom = undefined;
    showChart();
  };
  $('whole').onclick = showWhole;
  $('axis').onclick = () => {
    byHours = !byHours;
    showWhole();
  };
  addEventListener('resize', showChart);
  showChart();
}

// ------------------------------------------------------------------------------------------------
// The sections below

function stepsOf(row) {
  const before = rows[row.parent]?.steps;
  const changed = row.steps && before && before !== row.steps;
  return changed ? `${row.steps} (before ${before})` : row.steps;
}

function speedOf(row) {
  return short(row.speed) + (row.ratio ? ` (${signed(100 * (row.ratio - 1), 0)} %)` : '');
}

// How the machine was: all of it, or what is worth a word in a table.
function machineOf(row, all = false) {
  const words = [];
  if (row.disturbed) words.push(`repeated ${plural(row.disturbed, 'time')}: disturbed`);
  if (row.busy) words.push('busy in every attempt: ' + row.busy);
  if (row.cores && (all || row.load > row.cores + 0.5))
    words.push(`load ${short(row.load)} on ${plural(row.cores, 'core')}`);
  if (has(row.pressure) && (all || row.pressure > 0.1))
    words.push(`waited for a core ${Math.round(100 * row.pressure)} % of the time`);
  return words.join('; ');
}

function againOf(row) {
  if (!row.again.length) return '';
  const all = [row.bpb, ...row.again];
  const mean = all.reduce((a, b) => a + b) / all.length;
  return `again ${row.again.map(bpb).join(', ')}; mean ${bpb(mean)}`;
}

const intervalOf = row => row.interval ? row.interval.map(end => signed(end, 4)).join(' to ') : '';

// A figure with a smaller one below it.
const above = (value, below) => [value, below ? html.small({}, below) : ''];

// If the gap between test and val grows, the loop fits its validation rows.
const testOf = row => has(row.test) ?
  above(bpb(row.test), 'gap ' + signed(row.test - row.bpb, 4)) : '';

const costOf = row => above(has(row.minutes) ? row.minutes.toFixed(1) + ' min' : '',
  [has(row.gb) ? row.gb.toFixed(1) + ' GB' : '', row.usd ? '$' + row.usd.toFixed(2) : '']
    .filter(Boolean).join(', '));

// The difference of losses at one place of two curves, with about 95 %.
const lossOf = pair => pair ? `${signed(pair[0], 4)} \u00b1 ${(2 * pair[1]).toFixed(4)}` : '';

// Lists of rows by what `of` says of each, the longest first.
function grouped(list, of) {
  const groups = new Map();
  for (const row of list)
    for (const name of [of(row)].flat()) groups.set(name, [...(groups.get(name) ?? []), row]);
  return [...groups].sort((a, b) => b[1].length - a[1].length);
}

const numbered = ['#', 'n', row => link(row.n)];
const minutes = ['min', 'n', row => has(row.minutes) ? row.minutes.toFixed(1) : ''];
const experiments = ['experiments', '', ([, list]) => [
  ...list.slice(0, 12).flatMap(row => [link(row.n), ' ']),
  list.length > 12 ? `and ${list.length - 12} more` : '']];

function showWins() {
  if (!wins.length)
    return section('wins', 'What won',
      html.p({class: 'soft'}, 'Nothing was better than the baseline yet.'));
  const words = row => [row.certainty, machineOf(row), againOf(row)].filter(Boolean).join('; ');
  const noise = run.noise && run.noise.sigma > 0 ? run.noise.sigma : undefined;
  section('wins', 'What won', table([
    numbered,
    ['idea', 'idea', row => [link(row.n, row.idea), html.small({}, words(row))]],
    ['gain, 95 %', 'n', row => above(signed(row.change), intervalOf(row))],
    ['\u00d7 noise', 'n', row => noise ? short(Math.abs(row.change) / noise) : ''],
    ['test', 'n', testOf],
    ['won', '', row => row.won || 'not told by its curve'],
    ['steps', 'n', stepsOf],
    ['cost', 'n', costOf]
  ], [...wins].sort((a, b) => a.change - b.change)));
}

// Why an experiment was not kept, in the words that others share with it.
function groupOf(row) {
  if (row.status === 'crash')
    return 'crash: ' + (row.reason.replace(/[-+]?\d[\d.,e+-]*/g, '\u2026').slice(0, 90) ||
      'no reason told');
  if (!run.noise) return 'measured no better';
  return row.change <= run.noise.sigma ? 'equal within the noise' : 'worse by more than the noise';
}

function showFailed() {
  const failed = rows.filter(row => row.status === 'discard' || row.status === 'crash');
  const content = failed.length ? [table([
    ['how often', 'n', ([, list]) => list.length],
    ['why', 'idea', ([why]) => why],
    experiments
  ], grouped(failed, groupOf))] : [];
  for (const [who, count] of Object.entries(run.came_to_nothing))
    content.push(html.p({}, `${plural(count, 'proposal')} of ${who} never became a candidate.`));
  if (run.last_refusal) content.push(html.p({class: 'soft'}, 'The last: ' + run.last_refusal));
  section('failed', 'What failed, and why', ...content);
}

function showAreas() {
  const tried = rows.slice(1).filter(row => row.status !== 'open');
  const dead = grouped(tried, row => row.areas).filter(
    ([, list]) => list.length >= 3 && !list.some(row => row.status === 'keep'));
  const closest = list => {
    const changes = list.map(row => row.change).filter(has);
    return changes.length ? signed(Math.min(...changes)) : '';
  };
  if (dead.length)
    section('areas', 'Dead ends: parts that were tried three times or more and never won', table([
      ['part', 'idea', ([part]) => part],
      ['tried', 'n', ([, list]) => list.length],
      ['closest', 'n', ([, list]) => closest(list)],
      experiments
    ], dead));
}

// What shares most words with what has won comes first; of equal ones the latest.
function showNext() {
  const words = text => new Set(text.toLowerCase().match(/[\p{L}\d]{4,}/gu) ?? []);
  const won = words(wins.flatMap(row => [row.idea, ...row.areas]).join(' '));
  const shared = line => [...words(line)].filter(word => won.has(word)).length;
  const ranked = [...run.next].reverse().sort((a, b) => shared(b) - shared(a));
  if (ranked.length)
    section('next', 'Open questions that models noted, those nearest to what has won first',
      html.ul({}, ranked.map(line => html.li({}, line))));
}

function showSpent() {
  const colours = ['var(--keep)', 'var(--best)', 'var(--warn)', '#8f6fd6', 'var(--crash)',
    'var(--discard)', 'var(--line)'];
  const total = run.spent.total, content = [];
  const parts = run.spent.parts.filter(([, seconds]) => seconds > 0.005 * total);
  const bar = ([, seconds], i) =>
    html.i({style: `flex:${seconds / total};background:${colours[i]}`});
  const words = ([name, seconds], i) => [
    html.span({class: 'key', style: 'background:' + colours[i]}),
    `${name} ${Math.round(100 * seconds / total)} % (${duration(seconds)})\u2003`];
  if (total > 0)
    content.push(html.div({class: 'share'}, parts.map(bar)), html.p({}, parts.flatMap(words)));
  if (run.money) content.push(html.p({}, 'models: ' + run.money));
  if (run.proposers) content.push(html.p({}, 'proposed by: ' + run.proposers));
  section('spent', 'Where time and money went', ...content);
}

function showAll() {
  const small = (words, kind) => words ? html.small({class: kind}, words) : '';
  section('all', 'All experiments', table([
    numbered,
    ['status', '', row => html.span({class: row.status}, row.status)],
    ['val_bpb', 'n', row => bpb(row.bpb)],
    ['change', 'n', row => signed(row.change)],
    ['steps', 'n', row => row.steps],
    ['tokens/s', 'n', row => short(row.speed)],
    minutes,
    ['idea', 'idea', row => [link(row.n, row.idea || 'no description'),
      small(row.reason, row.status), small(machineOf(row), 'warn')]]
  ], rows));
}

function showFacts() {
  section('facts', 'The run', facts(run.facts.map(([name, value]) =>
    [name, name.startsWith('to restore') ? html.code({}, value) : value])));
}

// ------------------------------------------------------------------------------------------------
// One experiment

let shown;  // the number of the latest

const detailOf = n => $('d' + n) ? JSON.parse($('d' + n).textContent) : {};

function curves(row, detail) {
  const mine = detail.curve ?? [];
  if (mine.length < 2) return [];
  const parent = rows[row.parent], other = parent ? detailOf(parent.n).curve ?? [] : [];
  const points = [...mine, ...other], losses = points.map(p => p[2]).sort((a, b) => a - b);
  const low = losses[0], high = losses[Math.floor(losses.length * 0.95)];
  const frame = new Frame(Math.min(800, $('detail').clientWidth - 60), 240,
    [0, Math.max(...points.map(p => p[0]), 1)], [low, Math.max(high, low + 1e-3)], 'step');
  const draw = (kind, curve) => frame.svg.append(svg.path({class: kind,
    d: curve.map((p, i) => `${i ? 'L' : 'M'}${frame.x(p[0])} ${frame.y(p[2])}`).join('')}));
  if (other.length > 1) draw('other', other);
  draw('best', mine);
  const dashed = other.length > 1 ? `, dashed: the champion then, #${parent.n}` : '';
  return [html.h3({}, 'training loss' + dashed), frame.svg];
}

function diffLines(text) {
  const kind = line => /^(\+\+\+|---|@@)/.test(line) ? 'place' :
    {'+': 'added', '-': 'gone'}[line[0]] ?? '';
  return html.pre({class: 'diff'},
    text.split('\n').map(line => html.span({class: kind(line)}, line || ' ')));
}

function measurements(row) {
  return facts([
    ['val_bpb', bpb(row.bpb)], ['against the best before', signed(row.change)],
    ['measured again', againOf(row)], ['on the test split', bpb(row.test)],
    ['is', row.certainty], ['95 % interval', intervalOf(row)],
    ['won', row.status === 'keep' ? row.won : ''],
    ['loss difference at equal tokens', lossOf(row.at_equal_tokens)],
    ['loss difference at equal steps', lossOf(row.at_equal_steps)],
    ['steps', stepsOf(row)], ['tokens/s', speedOf(row)],
    ['memory', has(row.gb) ? row.gb.toFixed(1) + ' GB' : ''],
    ['training', has(row.minutes) ? row.minutes.toFixed(1) + ' min' : ''],
    ['machine', machineOf(row, true)], ['proposed by', row.by], ['parts', row.areas.join(', ')],
    ['constants', row.constants.join(', ')], ['began', clock(row.from)], ['judged', clock(row.to)],
    ['commit', row.commit]
  ]);
}

function showDetail(row) {
  const detail = detailOf(row.n), dialog = $('detail');
  shown = row.n;
  const step = (n, words) => rows[n] ? link(n, words) : '';
  const texts = (detail.texts ?? []).flatMap(([name, text]) =>
    [html.h3({}, name), name.endsWith('.diff') ? diffLines(text) : html.pre({}, text)]);
  dialog.replaceChildren(
    html.div({class: 'bar'}, html.span({class: row.status}, `#${row.n} ${row.status}`),
      step(row.n - 1, '\u2190 before'), step(row.n + 1, 'next \u2192'),
      html.a({href: '#', id: 'close'}, 'close')),
    html.h2({}, row.idea || 'no description'), row.why ? html.p({}, row.why) : '',
    row.reason ? html.p({class: row.status}, row.reason) : '', measurements(row));
  if (!dialog.open) dialog.showModal();  // before the curves, which ask how wide it is
  dialog.append(...curves(row, detail), ...texts);
  if (detail.folder) dialog.append(html.p({class: 'soft'}, `All of it: ${detail.folder}`));
  dialog.scrollTop = 0;
}

function goToHash() {
  const row = /^#\d+$/.test(location.hash) ? rows[Number(location.hash.slice(1))] : undefined;
  if (row)
    showDetail(row);
  else
    $('detail').close();
}

function startDetails() {
  const dialog = $('detail');
  // It comes late: by then the address may name the next one.
  dialog.onclose = () => {
    if (location.hash === '#' + shown)
      history.replaceState(null, '', location.pathname + location.search);
  };
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
