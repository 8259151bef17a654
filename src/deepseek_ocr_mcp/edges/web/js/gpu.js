// Who holds which memory, and when it will be given back. The state is asked for; the seconds tick here between answers.

import { api, connection, isGone } from "./api.js";
import { $, announce, h, icon, iconButton } from "./dom.js";
import { errorBox } from "./errors.js";
import { engineName, mebibytes, number, seconds, t } from "./i18n.js";
import { inWords } from "./server.js";

const OPEN_EVERY_MS = 1000;
const QUIET_EVERY_MS = 5000;
const TICK_MS = 250;

const MOVING = { loading: "host", restoring: "gpu", offloading: "host", releasing: "unloaded" };

export class GpuPanel {
  constructor() {
    this.panel = $("#gpu-panel");
    this.button = $("#gpu-button");
    this.status = null;
    this.at = 0;
    /** Whether the server wants a token that it did not get. */
    this.refused = false;
    this.outcome = null;
    this.acting = "";
    this.wake = null;
    /** Whether a file is being read, so that the state may change at any moment. */
    this.hurried = () => false;
    this.button.addEventListener("click", () => this.open(this.panel.hidden));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.panel.hidden && !event.defaultPrevented) {
        this.open(false);
        this.button.focus();
      }
    });
    document.addEventListener("pointerdown", (event) => {
      if (!this.panel.hidden && !this.panel.contains(event.target) && !this.button.contains(event.target) && !event.target.closest("dialog")) this.open(false);
    });
    document.addEventListener("visibilitychange", () => this.wake?.());
    connection.addEventListener("gone", () => this.paint());
    connection.addEventListener("back", () => this.wake?.());
    setInterval(() => this.tick(), TICK_MS);
    this.build();
  }

  /** Asks for the status for ever: every second while the panel is open or something is read, never while the page is hidden. */
  async watch() {
    for (;;) {
      if (!document.hidden && !isGone()) {
        try {
          this.status = await api.status();
          this.at = performance.now();
          this.refused = false;
        } catch (error) {
          this.refused = error.code === "unauthorized";
          if (error.code !== "unreachable") this.status = null;
        }
        this.paint();
      }
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, this.panel.hidden && !this.hurried() ? QUIET_EVERY_MS : OPEN_EVERY_MS);
      });
    }
  }

  open(shown) {
    this.panel.hidden = !shown;
    this.button.setAttribute("aria-expanded", String(shown));
    if (!shown) {
      this.outcome = null;
      return;
    }
    this.paint();
    this.wake?.();
    this.panel.querySelector("button")?.focus({ preventScroll: true });
  }

  /** The parts that stay while the panel is repainted, so that they keep the focus. */
  build() {
    this.title = h("h2", { id: "gpu-title" }, t("gpu.title"));
    this.engine = h("div", { class: "gpu-engine" });
    this.steps = h("ol", { class: "steps" });
    this.cards = h("div", { class: "cards" });
    this.workers = h("ul", { class: "workers", "aria-label": t("gpu.workers") });
    this.timers = h("div", { class: "timers" });
    this.facts = h("dl", { class: "facts" });
    this.offload = h("button", { type: "button", class: "plain", onclick: () => this.act("offload") }, icon("offload"), h("span", {}, t("gpu.offload")));
    this.release = h("button", { type: "button", class: "plain", onclick: () => this.act("release") }, icon("power"), h("span", {}, t("gpu.release")));
    this.said = h("div", { class: "said", role: "status" });
    this.panel.replaceChildren(
      h("div", { class: "panel-head" }, this.title, iconButton("close", t("close"), () => (this.open(false), this.button.focus()))),
      this.engine,
      this.steps,
      this.timers,
      this.cards,
      this.workers,
      this.facts,
      h("div", { class: "actions" }, this.offload, this.release),
      this.said,
    );
    this.paint();
  }

  async act(what, force = false) {
    if (!force && this[what].getAttribute("aria-disabled") === "true") return;
    this.acting = what;
    this.outcome = null;
    this.paint();
    try {
      const moved = await (what === "offload" ? api.offload() : api.release(force));
      this.outcome = { text: this.sentence(moved, force) };
      announce(this.outcome.text);
    } catch (error) {
      this.outcome = { error };
      announce(error.message);
    }
    this.acting = "";
    this.paint();
    this.wake?.();
  }

  sentence(moved, force) {
    // Whoever stops a load by force gives back what was loaded of it, though the state was unloaded all the time.
    if (moved.from === moved.to && !force) return t(`gpu.already.${moved.to}`);
    const values = { s: seconds(moved.seconds), freed: mebibytes(moved.freed_mb ?? 0) };
    return t(moved.freed_mb ? `gpu.moved.${moved.to}.freed` : `gpu.moved.${moved.to}`, values);
  }

  paint() {
    const { status } = this;
    const state = isGone() ? "gone" : (status?.state ?? "unknown");
    this.button.dataset.state = state;
    const name = status ? engineName(status.engine) : "";
    const place = state === "host" && status.ready_state === "host" ? "host.cpu" : state;
    const said = isGone() ? t("gone.short") : status ? t(`state.${place}`) : t(this.refused ? "token.missing" : "connecting");
    $("#gpu-summary").replaceChildren(...(name && !isGone() ? [h("b", {}, name), " ", h("span", { class: "sep" }), h("span", {}, said)] : [said]));
    this.button.setAttribute("aria-label", [isGone() ? "" : name, said, `(${t("gpu.title")})`].filter(Boolean).join(" "));
    if (this.panel.hidden || !status) return;

    this.engine.replaceChildren(
      h("p", { class: "engine-name" }, name, status.model && h("span", { class: "muted" }, status.model)),
      h("p", { class: "muted small-text", lang: inWords(status.engine_reason) ? null : "en" }, inWords(status.engine_reason) || status.engine_reason),
    );
    const gpu = Boolean(status.endpoints) || (status.ready_state === "gpu" && status.gpus.length > 0 && status.device !== "cpu");
    const places = gpu ? ["unloaded", "host", "gpu"] : ["unloaded", "host"];
    const here = places.indexOf(MOVING[state] ?? state);
    this.steps.replaceChildren(
      ...places.map((place, index) =>
        h("li", { class: [index < here ? "passed" : "", index === here ? "here" : "", index === here && state in MOVING ? "moving" : ""].join(" "), "aria-current": index === here ? "step" : null },
          h("span", { class: "step-dot", "aria-hidden": "true" }),
          h("span", {}, index === here && state in MOVING ? t(`state.${state}`) : t(gpu || place !== "host" ? `state.${place}` : "state.host.cpu")),
        ),
      ),
    );
    // Endpoints have cards of their own; those of this machine have no part in it.
    this.cards.replaceChildren(...(status.endpoints ? [] : status.gpus.length ? status.gpus.map((card) => this.card(card, status)) : [this.noCard(status.gpu_note)]));
    this.workers.setAttribute("aria-label", t(status.endpoints ? "gpu.endpoints" : "gpu.workers"));
    this.workers.replaceChildren(...(status.workers ?? []).map((worker, index) => this.worker(worker, index, status)), ...(status.endpoints ?? []).map((endpoint) => this.endpoint(endpoint)));
    const facts = [
      ["gpu.queue", number(status.queue)],
      ["gpu.served", number(status.served)],
      status.worker_host_mb !== null && status.worker_host_mb !== undefined && ["gpu.hostMemory", mebibytes(status.worker_host_mb)],
      status.worker_restarts > 0 && ["gpu.restarts", number(status.worker_restarts)],
      typeof status.download_percent === "number" && ["gpu.download", number(status.download_percent / 100, { style: "percent" })],
    ].filter(Boolean);
    this.facts.replaceChildren(...facts.map(([key, value]) => h("div", {}, h("dt", {}, t(key)), h("dd", {}, value))));
    if (status.last_error) this.facts.append(h("div", { class: "wide" }, h("dt", {}, t("gpu.lastError")), h("dd", { lang: "en" }, status.last_error)));
    this.offload.hidden = !gpu;
    // Not `disabled`: that would take the keyboard's focus away.
    this.offload.setAttribute("aria-disabled", String(Boolean(this.acting) || state !== "gpu"));
    this.release.setAttribute("aria-disabled", String(Boolean(this.acting) || (state === "unloaded" && !status.prewarmed)));
    this.offload.classList.toggle("busy", this.acting === "offload");
    this.release.classList.toggle("busy", this.acting === "release");
    if (this.saidAbout !== this.outcome) this.say();
    this.tick();
  }

  say() {
    this.saidAbout = this.outcome;
    this.said.replaceChildren(
      ...(this.outcome?.text ? [h("p", { class: "good" }, icon("check"), this.outcome.text)] : []),
      ...(this.outcome?.error
        ? [errorBox(this.outcome.error, this.outcome.error.code === "busy" && h("button", { type: "button", class: "danger small", onclick: () => this.act("release", true) }, t("gpu.force")))]
        : []),
    );
  }

  /** A line for each of several workers: which card, what it does, what it has read. */
  worker(worker, index, status) {
    const card = status.gpus.find((one) => one.uuid === worker.card);
    const failed = typeof worker.retry_in_s === "number";
    const place = worker.state === "host" && !card ? "host.cpu" : worker.state;
    const says = !failed ? t(`state.${place}`) : worker.retry_in_s > 0 ? t("gpu.retryIn", { s: seconds(Math.ceil(worker.retry_in_s)) }) : t("gpu.retrySoon");
    return h("li", { class: failed ? "failed" : "" },
      h("span", { class: "worker-name" }, card ? `GPU ${card.index}` : t("gpu.worker", { n: number(index + 1) })),
      h("span", {}, says),
      h("span", { class: "muted" }, `${t("gpu.served")}: ${number(worker.served)}`),
      failed && h("span", { class: "wide small-text", lang: "en" }, worker.last_error),
    );
  }

  /** A line for each endpoint that reads: where it is, how it is, what it has read. */
  endpoint(endpoint) {
    const failed = endpoint.state === "out";
    const says = failed && typeof endpoint.next_check_s === "number" ? t("gpu.retryIn", { s: seconds(Math.ceil(endpoint.next_check_s)) }) : t(MOVING[endpoint.state] ? `state.${endpoint.state}` : `endpoint.${endpoint.state}`);
    return h("li", { class: failed ? "failed" : "" },
      h("span", { class: "worker-name wide", lang: "en" }, endpoint.url),
      h("span", {}, says),
      h("span", { class: "muted" }, `${t("gpu.served")}: ${number(endpoint.served)}`),
      failed && h("span", { class: "wide small-text", lang: "en" }, endpoint.last_error),
    );
  }

  /** The reason why no card is listed. */
  noCard(note) {
    const known = note ? inWords(note) : t("gpu.none");
    return h("p", { class: "muted small-text no-card", lang: known ? null : "en" }, known || note);
  }

  card(card, status) {
    const worker = status.workers?.find((one) => one.card === card.uuid);
    const ours = status.workers ? (worker?.gpu_mb ?? 0) : status.worker_gpu_mb && status.device.includes(card.uuid) ? status.worker_gpu_mb : status.gpus.length === 1 ? (status.worker_gpu_mb ?? 0) : 0;
    const others = Math.max(0, card.memory_used_mb - ours);
    const bar = h("div", { class: "memory", role: "img", "aria-label": t("gpu.memoryText", { used: mebibytes(card.memory_used_mb), total: mebibytes(card.memory_total_mb), ours: mebibytes(ours) }) },
      h("span", { class: "ours" }), h("span", { class: "others" }));
    bar.children[0].style.width = `${(100 * ours) / card.memory_total_mb}%`;
    bar.children[1].style.width = `${(100 * others) / card.memory_total_mb}%`;
    return h("div", { class: "card" },
      h("p", { class: "card-name" }, h("span", {}, card.name), typeof card.utilization === "number" && h("span", { class: "muted" }, number(card.utilization / 100, { style: "percent" }))),
      bar,
      h("p", { class: "legend" },
        h("span", { class: "key ours" }, t("gpu.ours", { mb: mebibytes(ours) })),
        h("span", { class: "key others" }, t("gpu.others", { mb: mebibytes(others) })),
        h("span", { class: "key" }, t("gpu.free", { mb: mebibytes(card.memory_free_mb) })),
      ),
    );
  }

  /** The seconds that are left, counted on from the last answer. */
  tick() {
    if (this.panel.hidden || !this.status) return;
    const passed = (performance.now() - this.at) / 1000;
    const due = [
      ["gpu.offloadIn", this.status.state === "gpu" ? this.status.offload_in_s : null],
      ["gpu.releaseIn", this.status.release_in_s],
    ].filter(([, value]) => typeof value === "number");
    const lines = due.map(([key, value]) => {
      const left = Math.max(0, value - passed);
      const whole = value + (this.status.idle_s ?? 0);
      const fill = h("div", { class: "fill" });
      fill.style.width = `${whole > 0 ? (100 * left) / whole : 0}%`;
      return h("div", { class: "timer" }, h("p", {}, h("span", {}, t(key)), h("b", {}, seconds(Math.ceil(left)))), h("div", { class: "track" }, fill));
    });
    if (!lines.length && this.status.queue > 0) lines.push(h("p", { class: "muted small-text" }, t("gpu.working")));
    this.timers.replaceChildren(...lines);
    if (due.some(([, value]) => value > 0 && value - passed <= 0) && passed > 0.4) {
      this.at = performance.now();
      this.wake?.();
    }
  }
}
