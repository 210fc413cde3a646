// Draws lag, throughput and cycle time; the pointer shows the values at an instant.
"use strict";

(function () {
  const EVERY_MS = 15000;
  const HEIGHT = 150;
  const CHARTS = {
    lag: { at: "lag_at", lines: [["Lag", "lag_seconds", "--line-1"]], unit: duration },
    rate: {
      at: "rate_at",
      lines: [
        ["Read", "read_per_second", "--line-1"],
        ["Written", "written_per_second", "--line-2"],
      ],
      unit: rate,
    },
    cycle: { at: "cycle_at", lines: [["Cycle", "cycle_seconds", "--line-1"]], unit: duration },
  };
  const drawn = {};
  let span = "hour";
  let newest = null;

  function duration(seconds) {
    if (seconds == null) {
      return "–";
    }
    if (seconds < 10) {
      return Number(seconds.toFixed(1)) + " s";
    }
    const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const whole = Math.round(seconds);
    const place = units.findIndex(([length]) => whole >= length);
    const [length, unit] = units[place];
    const rest = units[place + 1] ? Math.floor((whole % length) / units[place + 1][0]) : 0;
    return Math.floor(whole / length) + " " + unit + (rest ? " " + rest + " " + units[place + 1][1] : "");
  }

  function rate(value) {
    return value == null ? "–" : Math.round(value).toLocaleString("en") + "/s";
  }

  // Instants are in UTC, as everywhere on the page.
  function clock(seconds, withDay) {
    const text = new Date(seconds * 1000).toISOString();
    return (withDay ? text.slice(5, 10) + " " : "") + text.slice(11, 16);
  }

  // The largest unit alone, so that it fits beside the axis.
  function short(text) {
    return text.split(" ").slice(0, 2).join(" ");
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function options(chart, width, lines) {
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    return {
      width: width,
      height: HEIGHT,
      cursor: { y: false, points: { size: 7 } },
      legend: { live: true },
      scales: {
        x: { time: true, range: [lines.from_at, lines.to_at] },
        y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] },
      },
      axes: [
        { ...axis, size: 26, space: span === "week" ? 96 : 64, values: (u, values) => values.map((at) => clock(at, span === "week")) },
        { ...axis, size: 58, values: (u, values) => values.map((value) => short(chart.unit(value))) },
      ],
      series: [
        { label: "At", value: (u, at) => (at == null ? "–" : clock(at, span !== "hour") + " UTC") },
        ...chart.lines.map(([label, , name]) => ({
          label: label,
          stroke: colour(name),
          fill: colour(name) + "1f",
          width: 1.75,
          spanGaps: false,
          points: { show: lines[chart.at].length < 40, size: 4 },
          value: (u, value) => chart.unit(value),
        })),
      ],
    };
  }

  function summary(chart, lines) {
    const values = lines[chart.lines[0][1]];
    if (!values.length) {
      return "nothing was measured in this time";
    }
    return chart.unit(values[values.length - 1]) + " at the end, " + chart.unit(Math.max(...values)) + " at most";
  }

  function draw(lines) {
    newest = lines;
    for (const [name, chart] of Object.entries(CHARTS)) {
      const figure = document.querySelector('[data-chart="' + name + '"]');
      if (!figure) {
        return;
      }
      const place = figure.querySelector(".plot");
      const text = summary(chart, lines);
      figure.querySelector("[data-summary]").textContent = text;
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", figure.querySelector("strong").textContent + ", last " + span + ": " + text);
      if (drawn[name]) {
        drawn[name].destroy();
        delete drawn[name];
      }
      if (lines[chart.at].length) {
        const data = [lines[chart.at], ...chart.lines.map(([, field]) => lines[field])];
        drawn[name] = new uPlot(options(chart, place.clientWidth || 300, lines), data, place);
      }
    }
  }

  function load() {
    if (document.visibilityState !== "visible" || !document.getElementById("charts")) {
      return;
    }
    fetch("api/v1/history?span=" + span, { headers: { accept: "application/json" } })
      .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status)))
      .then((lines) => {
        // a person who points at a line keeps it
        if (lines.span === span && !document.querySelector(".plot:hover")) {
          draw(lines);
        }
      })
      .catch(() => {}); // the banner about the lost connection tells it
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-span]");
    if (button) {
      span = button.dataset.span;
      for (const one of document.querySelectorAll("[data-span]")) {
        one.setAttribute("aria-pressed", String(one === button));
      }
      load();
    }
  });
  const redraw = () => newest && draw(newest);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let resizing = 0;
  addEventListener("resize", function () {
    clearTimeout(resizing);
    resizing = setTimeout(redraw, 150);
  });
  document.addEventListener("visibilitychange", load);
  setInterval(load, EVERY_MS);
  load();
})();
