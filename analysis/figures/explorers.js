// Explorers of report pages: figures that react. Each is a div.explorer with its data as JSON; what is drawn follows
// from the state of plain form controls, so that keyboard and pointer do the same. Nothing is loaded.
(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function element(parent, name, attributes = {}, text = "") {
    const svg = parent.namespaceURI === SVG || name === "svg";
    const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== "") made.textContent = text;
    parent.append(made);
    return made;
  }

  function control(root, label, made) {
    const holder = element(root.querySelector(".controls"), "label", {}, `${label} `);
    holder.append(made);
    return made;
  }

  function select(root, label, options, start, changed) {
    const made = document.createElement("select");
    options.forEach((option, at) => element(made, "option", { value: at }, option));
    made.value = start;
    made.addEventListener("change", changed);
    return control(root, label, made);
  }

  function slider(root, label, values, start, changed) {
    const made = document.createElement("input");
    Object.assign(made, { type: "range", min: 0, max: values.length - 1, step: 1, value: start });
    made.addEventListener("input", changed);
    control(root, label, made);
    const told = element(root.querySelector(".controls"), "output");
    made.tell = () => {
      told.textContent = values[made.value];
      made.setAttribute("aria-valuetext", values[made.value]);
    };
    return made;
  }

  function box(root, label, color, changed) {
    const made = document.createElement("input");
    Object.assign(made, { type: "checkbox", checked: true });
    made.addEventListener("change", changed);
    const holder = element(root.querySelector(".controls"), "label");
    holder.append(made);
    element(holder, "span", { class: "swatch", style: `background: ${color}` });
    holder.append(` ${label}`);
    return made;
  }

  // Stops of the color map viridis.
  const STOPS = [[68, 1, 84], [72, 40, 120], [62, 73, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137],
    [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]];

  function shade(value) {
    if (value === null) return "#999";
    const at = Math.min(Math.max(value, 0), 1) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    const mix = STOPS[low].map((from, k) => Math.round(from + (at - low) * (STOPS[low + 1][k] - from)));
    return `rgb(${mix})`;
  }

  const digits = (value, places) => (value === null ? "–" : value.toFixed(places));

  // A chart of lines: series [{values, color, name, dashed}] over equally spaced marks; `at` is marked.
  function chart(svg, title, marks, series, range, at) {
    svg.replaceChildren();
    const [left, top, width, height] = [44, 26, 400, 180];
    const x = (k) => left + (width * k) / Math.max(marks.length - 1, 1);
    const y = (value) => top + height * (1 - (value - range[0]) / (range[1] - range[0] || 1));
    element(svg, "text", { x: left, y: 14, class: "head" }, title);
    for (const part of [0, 0.5, 1]) {
      const value = range[0] + part * (range[1] - range[0]);
      element(svg, "line", { x1: left, x2: left + width, y1: y(value), y2: y(value), class: "rule" });
      element(svg, "text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(2));
    }
    const every = Math.ceil(marks.length / 10);
    marks.forEach((mark, k) => {
      if (k % every) return;
      element(svg, "text", { x: x(k), y: top + height + 16, "text-anchor": "middle" }, mark);
    });
    if (at !== null) element(svg, "line", { x1: x(at), x2: x(at), y1: top, y2: top + height, class: "cursor" });
    for (const { values, color, dashed } of series) {
      const known = values.map((value, k) => (value === null ? null : `${x(k)},${y(value)}`)).filter(Boolean);
      const look = { points: known.join(" "), fill: "none", stroke: color, "stroke-width": 2 };
      element(svg, "polyline", dashed ? { ...look, "stroke-dasharray": "5 4" } : look);
    }
  }

  function panel(root, width, height) {
    const size = { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" };
    return element(root.querySelector(".panels"), "svg", size);
  }

  // Every layer of one network against every layer of another, at every checkpoint that both have.
  function layers(root, data, tell) {
    const names = data.layers, count = names.length, side = 26, edge = 62;
    const pair = select(root, "networks", data.pairs.map((each) => each.name), 0, draw);
    const step = slider(root, "checkpoint", data.steps.map((each) => `step ${each}`), data.steps.length - 1, draw);
    const row = select(root, "layer (row)", names, Math.floor(count / 2), draw);
    const column = select(root, "layer (column)", names, Math.floor(count / 2), draw);
    const map = panel(root, edge + count * side + 4, edge + count * side + 4);
    const profile = panel(root, 460, 230), course = panel(root, 460, 230);
    map.addEventListener("click", (event) => {
      if (event.target.dataset.row === undefined) return;
      [row.value, column.value] = [event.target.dataset.row, event.target.dataset.column];
      draw();
    });
    function draw() {
      step.tell();
      const values = data.pairs[pair.value].values, now = values[step.value];
      const [i, j] = [Number(row.value), Number(column.value)];
      map.replaceChildren();
      names.forEach((name, k) => {
        const middle = edge + (k + 0.5) * side;
        element(map, "text", { x: edge - 6, y: middle + 4, "text-anchor": "end" }, name);
        element(map, "text", { transform: `translate(${middle + 4} ${edge - 6}) rotate(-60)` }, name);
      });
      now.forEach((value, at) => {
        const [r, c] = [Math.floor(at / count), at % count];
        const place = { x: edge + c * side, y: edge + r * side, width: side, height: side, fill: shade(value) };
        const cell = element(map, "rect", { ...place, "data-row": r, "data-column": c });
        element(cell, "title", {}, `${names[r]} | ${names[c]}: ${digits(value, 2)}`);
      });
      element(map, "rect", { x: edge + j * side, y: edge + i * side, width: side, height: side, class: "chosen" });
      const across = names.map((_, k) => now[i * count + k]), along = names.map((_, k) => now[k * count + j]);
      chart(profile, `${names[i]} against all (line), all against ${names[j]} (dashed)`, names,
        [{ values: across, color: "#0072B2" }, { values: along, color: "#D55E00", dashed: true }], [0, 1], null);
      chart(course, `${names[i]} | ${names[j]} over training`, data.steps,
        [{ values: values.map((each) => each[i * count + j]), color: "#0072B2" }], [0, 1], Number(step.value));
      const found = `${data.measure} ${digits(now[i * count + j], 3)}`;
      tell(`${names[i]} against ${names[j]}, ${data.pairs[pair.value].name}, step ${data.steps[step.value]}: ${found}`);
    }
    draw();
  }

  // Kernels of one layer, side by side, from the first checkpoint to the last.
  function filters(root, data, tell) {
    const layer = select(root, "layer", data.layers.map((each) => each.name), 0, draw);
    const step = slider(root, "checkpoint", data.steps.map((each) => `step ${each}`), data.steps.length - 1, draw);
    const canvases = ["first checkpoint", "chosen checkpoint"].map((name) => {
      const figure = element(root.querySelector(".panels"), "figure");
      const canvas = element(figure, "canvas", { role: "img" });
      element(figure, "figcaption", {}, name);
      return canvas;
    });
    function draw() {
      step.tell();
      const { name, width, frames, cosine } = data.layers[layer.value];
      const scale = Math.max(1, Math.floor(300 / width));
      [0, step.value].forEach((at, place) => {
        const pixels = Uint8Array.from(atob(frames[at]), (letter) => letter.charCodeAt(0));
        const canvas = canvases[place], height = pixels.length / width;
        canvas.setAttribute("aria-label", `kernels of ${name} at step ${data.steps[at]}`);
        [canvas.width, canvas.height] = [width * scale, height * scale];
        const pen = canvas.getContext("2d");
        pixels.forEach((gray, k) => {
          if (gray === 255) return; // between kernels
          pen.fillStyle = `rgb(${gray},${gray},${gray})`;
          pen.fillRect((k % width) * scale, Math.floor(k / width) * scale, scale, scale);
        });
      });
      const found = `the median filter has a cosine of ${digits(cosine[step.value], 3)} with its start`;
      tell(`${name}, step ${data.steps[step.value]}: ${found}`);
    }
    draw();
  }

  // Validation scores of every run, by arm.
  function curves(root, data, tell) {
    const task = select(root, "task and volume", data.cells.map((each) => each.name), 0, draw);
    const boxes = data.arms.map((arm) => box(root, arm.name, arm.color, draw));
    const longest = data.cells.reduce((most, cell) => (cell.steps.length > most.length ? cell.steps : most), []);
    const step = slider(root, "step", longest, longest.length - 1, draw);
    const picture = panel(root, 460, 230);
    picture.addEventListener("click", (event) => {
      const area = picture.getBoundingClientRect();
      const part = ((event.clientX - area.left) / area.width * 460 - 44) / 400;
      step.value = Math.round(part * (data.cells[task.value].steps.length - 1));
      draw();
    });
    function draw() {
      const cell = data.cells[task.value];
      step.max = cell.steps.length - 1;
      step.tell();
      const shown = cell.runs.filter((run) => boxes[run.arm].checked);
      const all = cell.runs.flatMap((run) => run.values).filter((value) => value !== null);
      const series = shown.map((run) => ({ values: run.values, color: data.arms[run.arm].color }));
      const range = [Math.min(...all), Math.max(...all)];
      chart(picture, `${cell.measure}, one line a run`, cell.steps, series, range, Number(step.value));
      const told = data.arms.map((arm, at) => {
        const own = shown.filter((run) => run.arm === at).map((run) => run.values[step.value]);
        const values = own.filter((value) => value !== null);
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        return values.length ? `${arm.name} ${mean.toFixed(3)} (${values.length} seeds)` : "";
      });
      tell(`step ${cell.steps[step.value]}: ${told.filter(Boolean).join("; ") || "nothing chosen"}`);
    }
    draw();
  }

  // Test images with the true outline and those that networks draw.
  function outlines(root, data, tell) {
    const scale = Math.max(1, Math.floor(384 / data.size));
    const image = slider(root, "image", data.images.map((each, at) => `${at + 1} of ${data.images.length}`), 0, draw);
    const boxes = data.arms.map((arm) => box(root, arm.name, arm.color, draw));
    const svg = panel(root, data.size * scale, data.size * scale);
    // The border of a mask (rows of 0 and 1) as a path along the edges of its pixels.
    function border(mask) {
      const inside = (r, c) => r >= 0 && c >= 0 && r < data.size && c < data.size && mask[r * data.size + c] === "1";
      let path = "";
      for (let r = 0; r < data.size; r++) {
        for (let c = 0; c < data.size; c++) {
          if (!inside(r, c)) continue;
          const [x, y] = [c * scale, r * scale];
          if (!inside(r - 1, c)) path += `M${x} ${y}h${scale}`;
          if (!inside(r + 1, c)) path += `M${x} ${y + scale}h${scale}`;
          if (!inside(r, c - 1)) path += `M${x} ${y}v${scale}`;
          if (!inside(r, c + 1)) path += `M${x + scale} ${y}v${scale}`;
        }
      }
      return path;
    }
    const eight = (letter) => letter.charCodeAt(0).toString(2).padStart(8, "0");
    const unpacked = (bits) => Array.from(atob(bits), eight).join("");
    function draw() {
      image.tell();
      const chosen = data.images[image.value];
      svg.replaceChildren();
      const [side, style] = [data.size * scale, "image-rendering: pixelated"];
      element(svg, "image", { href: chosen.picture, width: side, height: side, style });
      data.arms.forEach((arm, at) => {
        if (!boxes[at].checked) return;
        const d = border(unpacked(chosen.masks[at]));
        element(svg, "path", { d, stroke: arm.color, "stroke-width": 2, fill: "none" });
      });
      const scores = data.arms.map((arm, at) => (at ? `${arm.name} Dice ${digits(chosen.dice[at], 2)}` : ""));
      tell(`${chosen.name}: ${scores.filter(Boolean).join("; ")}`);
    }
    draw();
  }

  const KINDS = { layers, filters, curves, outlines };
  for (const root of document.querySelectorAll(".explorer:not([data-ready])")) {
    root.dataset.ready = "yes";
    element(root, "div", { class: "controls" });
    element(root, "div", { class: "panels" });
    const told = element(root, "p", { class: "told", role: "status" });
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    KINDS[root.dataset.kind](root, data, (text) => { told.textContent = text; });
  }
})();
