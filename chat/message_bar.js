// The row of actions at each message: made when nothing is being written, so that words cost nothing. It stands where
// Gradio has its own button to copy. What is edited is kept here until the server has it.

const parleyMessageBar = (status, act, address, warn) => {
  const ICONS = {
    edit: "M12 20h9M16.5 3.5a2.1 2.1 0 0 1 3 3L7 19l-4 1 1-4Z",
    retry: "M3 12a9 9 0 1 0 3-6.7L3 8M3 3v5h5",
    "take back": "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
    fork: "M6 3v12M18 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM6 21a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM18 9a9 9 0 0 1-9 9",
    link: "M10 13a5 5 0 0 0 7.5.5l3-3a5 5 0 0 0-7-7l-1.7 1.7M14 11a5 5 0 0 0-7.5-.5l-3 3a5 5 0 0 0 7 7l1.7-1.7",
    back: "m15 18-6-6 6-6",
    on: "m9 18 6-6-6-6",
    more: "m6 9 6 6 6-6",
    up: "M7 10v11M15 5.9 14 10h5.8a2 2 0 0 1 2 2.5l-2.4 7A2 2 0 0 1 17.5 21H4a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2h3l4-8a3 3 0 0 1 4 3.9Z",
    down: "M17 14V3M9 18.1l1-4.1H4.2a2 2 0 0 1-2-2.5l2.4-7A2 2 0 0 1 6.5 3H20a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-3l-4 8a3 3 0 0 1-4-3.9Z",
    done: "M20 6 9 17l-5-5",
  };
  let models = [];
  let due = 0; // The frame in which rows are made.
  let rated = null; // The reply that a comment is asked for.
  let editing = null; // The prompt that is edited, its text, and the number of the action once it is sent.

  const box = () => document.querySelector("#conversation .bubble-wrap");
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value != null && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  function icon(name) {
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawn.setAttribute("viewBox", "0 0 24 24");
    drawn.setAttribute("aria-hidden", "true");
    const path = drawn.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    path.setAttribute("d", ICONS[name]);
    return drawn;
  }

  const button = (name, label, onclick, disabled = false) =>
    make("button", { type: "button", title: label, "aria-label": label, "data-do": label, disabled: disabled ? "" : null, onclick }, icon(name));

  function versions(turn, kind, version) {
    if (!version) return null;
    const [number, count] = version;
    const go = (to) => () => act({ do: "switch", entry: turn.prompt, kind, number: to });
    return make(
      "span",
      { class: "versions", role: "group", "aria-label": `Version ${number} of ${count}` },
      button("back", "Previous version", go(number - 1), number === 1),
      make("span", {}, `${number}/${count}`),
      button("on", "Next version", go(number + 1), number === count),
    );
  }

  // The page's address of a message, in the clipboard.
  async function copyLink(entry, event) {
    const shown = event.currentTarget;
    await navigator.clipboard.writeText(address(entry));
    shown.replaceChildren(icon("done"));
    setTimeout(() => shown.replaceChildren(icon("link")), 1500);
  }

  function withModel(turn) {
    if (models.length < 2) return null;
    const label = "Retry with another model";
    const items = models.map((model) => ({ label: model, act: () => act({ do: "retry", entry: turn.prompt, model }) }));
    const made = button("more", label, () => parleyMenu.open(made, label, items, "Retry with"));
    made.classList.add("narrow");
    made.ariaHasPopup = "menu";
    made.ariaExpanded = "false";
    return made;
  }

  const root = () => window.gradio_config?.root ?? "";
  const pathOf = (kind, entry) =>
    new URL(`${root()}/parley/${kind}/${[status().conversation, entry].map(encodeURIComponent).join("/")}`, location.href);

  // What is said of a reply: shown once the server has it.
  async function rate(turn, verdict, comment) {
    let sentence = "The server can't be reached. Try again in a moment.";
    try {
      const options = { method: "PUT", headers: { "content-type": "application/json" } };
      const answer = await fetch(pathOf("feedback", turn.reply), { ...options, body: JSON.stringify({ verdict, comment }) });
      sentence = answer.ok ? null : (await answer.json()).error;
    } catch {}
    if (sentence) return warn(sentence);
    for (const each of status().turns) if (each.reply === turn.reply) each.rating = verdict ? { verdict, comment } : {};
    rated = verdict && !comment ? turn.reply : null;
    place();
    box().querySelector(".comment textarea")?.focus();
  }

  function thumb(turn, verdict, label) {
    const given = turn.rating.verdict === verdict;
    const toggle = () => rate(turn, given ? null : verdict, given ? "" : (turn.rating.comment ?? ""));
    const made = button(verdict, label, toggle);
    made.setAttribute("aria-pressed", String(given));
    return made;
  }

  // The comment that goes with a thumb: asked for once it is given, and always there to be changed.
  function comment(turn) {
    if (!turn.rating.verdict) return null;
    const said = turn.rating.comment;
    if (rated !== turn.reply) {
      const open = () => {
        rated = turn.reply;
        place();
        box().querySelector(".comment textarea")?.focus();
      };
      return said ? make("button", { type: "button", class: "said", title: "Change the comment", onclick: open }, said) : null;
    }
    const close = () => {
      rated = null;
      place();
    };
    const save = () => (typed.value.trim() === said ? close() : rate(turn, turn.rating.verdict, typed.value.trim()));
    const typed = make("textarea", {
      rows: "1",
      maxlength: "4000",
      placeholder: "What was good or bad about it? (optional)",
      "aria-label": "Comment on the reply",
      onkeydown: (event) => {
        if (event.isComposing) return;
        if (event.key === "Escape") close();
        else if (event.key === "Enter" && !event.shiftKey) save();
        else return;
        event.preventDefault();
      },
    });
    typed.value = said;
    const submitted = (event) => {
      event.preventDefault();
      save();
    };
    const send = make("button", { type: "submit", class: "main" }, "Send");
    const skip = make("button", { type: "button", onclick: close }, "Close");
    return make("form", { class: "comment", onsubmit: submitted }, typed, skip, send);
  }

  const forked = (entry) => (entry ? button("fork", "Fork from here", () => act({ do: "fork", entry })) : null);
  const linked = (entry) => button("link", "Copy link", (event) => copyLink(entry, event));

  // What a fork at a prompt begins with.
  function unanswered(turn) {
    const made = button("retry", "Get a reply", () => act({ do: "retry", entry: turn.prompt }));
    made.classList.add("worded");
    made.append("Get a reply");
    return made;
  }

  function ofPrompt(turn, newest) {
    return [
      versions(turn, "prompt", turn.asked),
      newest && turn.reply_at == null ? unanswered(turn) : null,
      button("edit", "Edit", () => edit(turn.prompt)),
      newest ? button("take back", "Take back", () => takeBack(turn.prompt)) : null,
      forked(turn.prompt),
      linked(turn.prompt),
    ];
  }

  function ofReply(turn) {
    return [
      versions(turn, "reply", turn.answered),
      button("retry", "Retry", () => act({ do: "retry", entry: turn.prompt })),
      withModel(turn),
      turn.reply ? thumb(turn, "up", "Good reply") : null,
      turn.reply ? thumb(turn, "down", "Bad reply") : null,
      turn.reply ? forked(turn.end) : null,
      turn.reply ? linked(turn.reply) : null,
      turn.reply ? comment(turn) : null,
    ];
  }

  // What a prompt says, and its files; nothing when it is gone.
  async function read(entry) {
    const answer = await fetch(pathOf("prompts", entry));
    return answer.ok ? answer.json() : null;
  }

  async function edit(entry) {
    const said = await read(entry);
    if (!said) return;
    const { text } = said;
    editing = { entry, conversation: status().conversation, text, blank: !text.trim() };
    place();
    const typed = document.querySelector(".message-edit textarea");
    typed?.focus();
    typed?.setSelectionRange(text.length, text.length);
  }

  async function takeBack(entry) {
    const said = await read(entry);
    if (said) act({ do: "take back", entry }, said);
  }

  function form() {
    const typed = make("textarea", {
      "aria-label": "Edit the message",
      rows: "1",
      oninput: () => (editing.text = typed.value),
      onkeydown: (event) => {
        if (event.isComposing) return;
        if (event.key === "Escape") cancel();
        else if (event.key === "Enter" && !event.shiftKey) send();
        else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    typed.value = editing.text;
    const entry = editing.entry;
    const send = () => (editing.sent = act({ do: "edit", entry, text: typed.value }));
    function cancel() {
      editing = null;
      place();
      document.querySelector(`.message-bar[data-entry="${CSS.escape(entry)}"] [data-do="Edit"]`)?.focus();
    }
    const buttons = make(
      "div",
      {},
      make("button", { type: "button", onclick: cancel }, "Cancel"),
      make("button", { type: "submit", class: "main" }, "Send"),
    );
    const submitted = (event) => {
      event.preventDefault();
      send();
    };
    const blank = editing.blank ? "" : null;
    return make("form", { class: "message-edit", "data-entry": entry, "data-blank": blank, onsubmit: submitted }, typed, buttons);
  }

  // The rows that are wanted, by the element that each is in.
  function wanted() {
    const { turns, counts, last } = status();
    const shown = [...box().querySelectorAll("[data-testid=user], [data-testid=bot]")];
    if (shown.length !== sum(counts)) return null;
    const rows = new Map();
    const add = (at, entry, newest, content) => {
      const host = at == null ? null : shown[at].closest(".message-row")?.nextElementSibling;
      if (host?.matches(".message-buttons")) rows.set(host, { entry, newest, content });
    };
    turns.forEach((turn, index) => {
      const newest = last == null && index === turns.length - 1;
      add(turn.prompt_at, turn.prompt, newest && turn.reply_at == null, () => ofPrompt(turn, newest));
      add(turn.reply_at, turn.prompt, newest, () => ofReply(turn));
      for (const at of [turn.prompt_at, turn.reply_at]) {
        const host = at == null ? null : shown[at].closest(".message-row")?.nextElementSibling;
        if (rows.has(host)) rows.get(host).key = JSON.stringify([turn, newest, at, at === turn.reply_at && rated === turn.reply]);
      }
    });
    return rows;
  }

  // Gradio keeps the elements of a message as long as it can: rows that fit are left alone.
  function place() {
    due = 0;
    if (status().phase !== "idle" || !box()) return;
    const rows = wanted();
    if (!rows) return;
    for (const old of box().querySelectorAll(".message-bar")) if (!rows.has(old.parentElement)) old.remove();
    for (const [host, { key, entry, newest, content }] of rows) {
      const old = host.querySelector(".message-bar");
      if (old?.dataset.key !== key) {
        const bar = make("div", { class: "message-bar", "data-key": key, "data-entry": entry }, ...content());
        const focused = old?.contains(document.activeElement) && document.activeElement.dataset.do;
        if (old) old.replaceWith(bar);
        else host.append(bar);
        const again = focused && bar.querySelector(`[data-do="${focused}"]`);
        if (again) (again.disabled ? bar.querySelector("button:enabled") : again).focus();
      }
      host.toggleAttribute("data-newest", newest);
    }
    placeForm(rows);
  }

  function placeForm(rows) {
    const old = box().querySelector(".message-edit");
    if (editing && editing.conversation !== status().conversation) editing = null;
    const host = editing && [...rows].find(([, row]) => row.entry === editing.entry)?.[0];
    if (old && old.parentElement === host && old.dataset.entry === editing.entry) return;
    old?.remove();
    if (host) host.prepend(form());
  }

  return {
    textOf: async (entry) => (await read(entry))?.text ?? null,
    // Gradio makes the box some time after the page's script.
    start(itsModels) {
      models = itsModels;
      if (!box()) return requestAnimationFrame(() => this.start(models));
      const changed = () => (due ||= status().phase === "idle" ? requestAnimationFrame(place) : 0);
      new MutationObserver(changed).observe(box(), { childList: true, subtree: true });
      changed();
    },
    // What a frame says of what was done.
    frame({ acted, failed, taken_back }) {
      if (editing?.sent && editing.sent === acted) {
        if (failed) editing.sent = null;
        else editing = null;
      }
      document.getElementById("taken-back")?.toggleAttribute("hidden", !taken_back || status().phase !== "idle");
      due ||= requestAnimationFrame(place);
    },
  };
};
