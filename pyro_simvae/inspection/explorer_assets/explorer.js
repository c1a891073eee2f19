// What the explorer does in the browser. Runs once, when the page is ready; all free names are the arguments that
// explorer.py gives: the plot, its sources and controls, and the data. Text reaches the page as text, never as HTML.

const num_items = spaces[0].loc.shape[0];
const {num_views, reconstructed} = tiles;
const urls = tiles.sheets.map(png => URL.createObjectURL(new Blob([png], {type: "image/png"})));
const [page_legend, page_count, page_hover, page_pinned] = ["legend", "count", "hover", "pinned"].map(
  id => document.getElementById(id));
const when = (model, property, act) => model.connect(model.properties[property].change, act);
const range = n => Array.from({length: n}, (_, i) => i);
// Not subarray: Bokeh's arrays lose the offset.
const row_of = (matrix, row) => range(matrix.shape[1]).map(column => matrix[row * matrix.shape[1] + column]);
let pinned = 0;

// ---------------------------------------------------------------- the plane

function plane() {
  const at = spaces.find(each => each.name === space.value);
  const dim = at.loc.shape[2];
  const rows = [Number(across.value), Number(up.value)];
  const direction = rows.map(row => row_of(at.directions, row));
  const centre = rows.map(row => at.centre[row]);
  return {at, dim, direction, centre};
}

const project = ({dim, direction, centre}, loc, start) =>
  direction.map((w, k) => { let sum = -centre[k]; for (let d = 0; d < dim; d++) sum += w[d] * loc[start + d]; return sum; });

// The curve that holds 90 % of a Normal with diagonal covariance, seen along two directions: loc + r L (cos, sin),
// L L' the covariance of the plane's two coordinates. Of a plane that shows one dimension only, the 90 % interval.
function region({dim, direction: [a, b]}, scale, start, [x, y]) {
  let xx = 0, xy = 0, yy = 0;
  for (let d = 0; d < dim; d++) {
    const variance = scale[start + d] ** 2;
    xx += a[d] * a[d] * variance; xy += a[d] * b[d] * variance; yy += b[d] * b[d] * variance;
  }
  const rest = xx > 0 ? yy - xy * xy / xx : yy;
  const flat = xx === 0 || rest <= 1e-6 * yy;
  const radius = flat ? 1.6449 : Math.sqrt(-2 * Math.log(0.1));
  const [l11, l21, l22] = [Math.sqrt(xx), xx > 0 ? xy / Math.sqrt(xx) : 0, Math.sqrt(Math.max(rest, 0))];
  const turns = range(72).map(i => 2 * Math.PI * i / 72);
  return {
    xs: turns.map(t => x + radius * l11 * Math.cos(t)),
    ys: turns.map(t => y + radius * (l21 * Math.cos(t) + l22 * Math.sin(t))),
  };
}

function place() {
  const {axes} = spaces.find(each => each.name === space.value);
  const titles = [across, up].map(select => axes.find(([value]) => value === select.value)?.[1]);
  if (titles.includes(undefined)) return; // the space has just changed, and one of its axes not yet
  const {at, dim, ...rest} = plane();
  const x = new Float64Array(num_items), y = new Float64Array(num_items);
  const views = at.loc.shape[1];
  for (let i = 0; i < num_items; i++) [x[i], y[i]] = project({dim, ...rest}, at.loc, i * views * dim);
  source.data = {x, y, fill: source.data.fill};
  [plot.below[0], plot.left[0]].forEach((axis, k) => { axis.axis_label = `${titles[k]} of ${at.name}`; });
  fit();
  mark();
}

// Both axes in one unit, so that distances on the screen are distances in the plane.
function fit() {
  const {inner_width: width, inner_height: height} = plot;
  if (!(width > 0 && height > 0)) return;
  const ends = values => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [[left, right], [bottom, top]] = [ends(source.data.x), ends(source.data.y)];
  const unit = 1.1 * Math.max((right - left) / width, (top - bottom) / height) || 2 / Math.min(width, height);
  const set = (model, middle, size) => {
    const [start, end] = [middle - unit * size / 2, middle + unit * size / 2];
    model.setv({start, end, reset_start: start, reset_end: end});
  };
  set(plot.x_range, (left + right) / 2, width);
  set(plot.y_range, (bottom + top) / 2, height);
}

// ---------------------------------------------------------------- colours and filters

const number = value =>
  Number.isFinite(value) ? String(Number(value.toPrecision(4))) : Number.isNaN(value) ? "none" : value > 0 ? "∞" : "-∞";
const swatch = colour => { const dot = element("i", "swatch"); dot.style.background = colour; return dot; };
const class_colour = index => palette[classes[index] % palette.length];

function paint() {
  const missing = "#c8c8c8";
  const column = columns[Number(colour.value)];
  let fill = () => view_colours[0];
  if (colour.value === "") page_legend.replaceChildren();
  else if (colour.value === "label") {
    fill = class_colour;
    page_legend.replaceChildren(...names.map((name, k) => element("span", "", swatch(palette[k % palette.length]), name)));
  } else {
    const [low, high] = column.shades;
    const last = shades.length - 1;
    fill = i => {
      const value = column.values[i];
      if (Number.isNaN(value)) return missing;
      return shades[Math.round(last * Math.min(1, Math.max(0, (value - low) / (high - low))))];
    };
    const bar = element("i", "bar");
    bar.style.background = `linear-gradient(to right, ${shades.filter((_, k) => k % 16 === 0).join(", ")})`;
    const ends = [(column.low < low ? "≤ " : "") + number(low), (column.high > high ? "≥ " : "") + number(high)];
    page_legend.replaceChildren(element("span", "", column.name), element("span", "", ends[0], bar, ends[1]));
    if (column.values.some(Number.isNaN)) page_legend.append(element("span", "", swatch(missing), "none"));
  }
  source.data = {...source.data, fill: range(num_items).map(fill)};
}

// An end of a slider that has not been moved leaves nothing out, not even a value that is not finite.
function filter() {
  const labels = new Set(chosen.value.map(Number));
  const tests = Object.entries(sliders)
    .map(([key, slider]) => ({values: columns[Number(key)].values, slider}))
    .filter(({slider}) => slider.value[0] > slider.start || slider.value[1] < slider.end);
  const keep = range(num_items).map(i => (labels.size === 0 || labels.has(classes[i])) && tests.every(
    ({values, slider: {start, end, value: [low, high]}}) =>
      (low <= start || values[i] >= low) && (high >= end || values[i] <= high)));
  shown.booleans = keep;
  page_count.textContent = `${keep.filter(Boolean).length} of ${num_items} shown`;
}

// ---------------------------------------------------------------- pictures and text

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

// One image out of its sheet, whole pixels to a pixel where it is enlarged.
function picture(item, view, reconstruction, size) {
  const tile = item * num_views * (reconstructed ? 2 : 1) + (reconstruction ? num_views : 0) + view;
  const {across, down, width, height} = tiles;
  const at = tile % (across * down);
  const ratio = size / Math.max(width, height);
  const zoom = ratio >= 1 ? Math.floor(ratio) : ratio;
  const made = element("div", "picture");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", `item ${item}, ${reconstruction ? "reconstruction of " : ""}view ${view + 1}`);
  Object.assign(made.style, {
    width: `${width * zoom}px`,
    height: `${height * zoom}px`,
    backgroundImage: `url(${urls[Math.floor(tile / (across * down))]})`,
    backgroundSize: `${across * width * zoom}px auto`,
    backgroundPosition: `${-(at % across) * width * zoom}px ${-Math.floor(at / across) * height * zoom}px`,
  });
  return made;
}

const view_colour = view => view_colours[view % view_colours.length];

// A column a view: the view above its reconstruction.
function pictures(item, size, named) {
  return element("div", "views", ...range(num_views).map(view => {
    const images = [picture(item, view, false, size)];
    if (reconstructed) images.push(picture(item, view, true, size));
    const made = element("figure", "", ...images);
    if (named) made.append(element("figcaption", "", swatch(view_colour(view)), `view ${view + 1}`));
    return made;
  }));
}

const label = item => classes === null ? [] : [swatch(class_colour(item)), names[classes[item]]];

function values(item, chosen_columns) {
  return element("dl", "", ...chosen_columns.flatMap(
    ({name, values}) => [element("dt", "", name), element("dd", "", number(values[item]))]));
}

function point_at(item, {sx, sy}) {
  page_hover.replaceChildren(
    element("p", "", `item ${item} `, ...label(item)), pictures(item, 64, false),
    values(item, columns.filter(column => column.diagnostic)));
  page_hover.hidden = false;
  const frame = document.getElementById("plot").getBoundingClientRect();
  const [x, y, gap] = [frame.left + sx, frame.top + sy, 14];
  const {offsetWidth: width, offsetHeight: height} = page_hover;
  page_hover.style.left = `${x + gap + width <= innerWidth ? x + gap : Math.max(0, x - gap - width)}px`;
  page_hover.style.top = `${Math.max(0, Math.min(y + gap, innerHeight - height))}px`;
}

// ---------------------------------------------------------------- the pinned item

function pin(item) {
  pinned = item;
  const buttons = row_of(neighbours, item).map(other => {
    const button = element("button", "", picture(other, 0, false, 64), element("span", "", ...label(other)));
    button.type = "button";
    button.title = `item ${other}`;
    button.addEventListener("click", () => pin(other));
    return button;
  });
  page_pinned.replaceChildren(
    element("h2", "", `Item ${item} `, ...label(item)), pictures(item, 112, true),
    element("p", "note", "The curves hold 90 % of each view's posterior" + (spaces.length > 1 ? "; dashed: of content's." : ".")),
    element("h3", "", "Nearest in z"), element("div", "near", ...buttons),
    ...(columns.length ? [element("h3", "", "Values"), values(item, columns)] : []));
  mark();
}

// The regions of the pinned item: those of its views and of its content, as far as they lie in the plane's space.
function mark() {
  const seen = plane();
  const found = {xs: [], ys: [], color: [], dash: []}, middle = {x: [], y: [], color: []};
  for (const {name, loc, scale, loc: {shape: [, views, dim]}} of spaces) {
    if (dim !== seen.dim) continue;
    for (let view = 0; view < views; view++) {
      const start = (pinned * views + view) * dim;
      const [x, y] = project(seen, loc, start);
      const {xs, ys} = region(seen, scale, start, [x, y]);
      const color = name === "content" ? ink : view_colour(view);
      found.xs.push(xs); found.ys.push(ys); found.color.push(color); found.dash.push(name === "content" ? "dashed" : "solid");
      middle.x.push(x); middle.y.push(y); middle.color.push(color);
    }
  }
  regions.data = found;
  centres.data = middle;
}

// ---------------------------------------------------------------- wiring

function enter_space() {
  const {axes} = spaces.find(each => each.name === space.value);
  across.setv({options: axes, value: "0"});
  up.setv({options: axes, value: "1"});
  place();
}

when(space, "value", enter_space);
for (const axis of [across, up]) when(axis, "value", place);
for (const side of ["inner_width", "inner_height"]) when(plot, side, fit);
when(colour, "value", paint);
when(chosen, "value", filter);
for (const slider of Object.values(sliders)) when(slider, "value", filter);
// Of dots on top of each other the last is drawn last: that is the one seen.
hover.callback = (_, {index: {indices}, geometry}) => {
  if (indices.length) point_at(Math.max(...indices), geometry);
  else page_hover.hidden = true;
};
tap.callback = (_, {source: {inspected: {indices}}}) => pin(Math.max(...indices));

enter_space();
paint();
filter();
pin(0);
