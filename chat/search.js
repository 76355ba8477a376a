// The search box: what its words find is shown in the place of the list, as long as there are words. Arrow keys move
// between the box and what was found, Enter opens it, Escape clears the box. All that a person wrote is set as text.

const parleySearch = (() => {
  const PAUSE_MS = 150;
  let box, said, list; // The input, the sentence below it, and what was found.
  let due = 0; // The timer of the next search.
  let asking = null; // What gives the newest one up.

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  function changed() {
    clearTimeout(due);
    const query = box.value;
    document.body.toggleAttribute("data-searching", query.trim() !== "");
    if (query.trim()) due = setTimeout(() => ask(query), PAUSE_MS);
    else show([], "");
  }

  async function ask(query) {
    asking?.abort();
    const mine = (asking = new AbortController());
    const answer = await post("", { query: query.toWellFormed?.() ?? query }, mine.signal);
    if (!answer || mine !== asking || query !== box.value) return;
    const { conversations = [], error } = answer;
    show(conversations, error ?? (conversations.length ? "" : `No results for “${query.trim()}”.`));
  }

  // What the server answers, a sentence as `error` when it can't; nothing for what was given up.
  async function post(path, body, signal) {
    try {
      const response = await fetch(`${window.gradio_config?.root ?? ""}/parley/search${path}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal,
      });
      return await response.json();
    } catch (error) {
      return error.name === "AbortError" ? null : { error: "The server can't be reached. Try again in a moment." };
    }
  }

  // The message may be in another version than the one that the conversation shows.
  async function open(conversation, entry) {
    const { error } = entry ? await post("/open", { conversation, entry }) : {};
    said.textContent = error ?? "";
    if (error) return;
    parley.open(conversation, entry);
    parleySidebar.close(); // Also when it only leads to another message of what is shown.
    mark();
  }

  function show(conversations, sentence) {
    if (!box.value.trim()) asking?.abort();
    said.textContent = sentence;
    list.replaceChildren(...conversations.flatMap(group));
    list.hidden = !conversations.length;
    mark();
  }

  // A conversation: its title, its day, and the messages of it that were found.
  function group({ id, title, at, hits }) {
    const day = element("time", { dateTime: at, textContent: dayOf(at) });
    const head = link(id, null, element("span", { className: "title", dir: "auto" }, ...pieces(title)), day);
    return [head, ...hits.map(({ entry, snippet }) => link(id, entry, element("q", { dir: "auto" }, ...pieces(snippet))))];
  }

  function link(id, entry, ...children) {
    const address = new URLSearchParams(entry ? { c: id, m: entry } : { c: id });
    const made = element("a", { href: `?${address}` }, ...children);
    made.onclick = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      open(id, entry);
    };
    return made;
  }

  const pieces = (parts) =>
    parts.map(({ text, marked }) => (marked ? element("mark", { textContent: text }) : document.createTextNode(text)));

  function dayOf(at) {
    const [date, today] = [new Date(at), new Date()];
    const days = Math.round((new Date(today).setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
    if (days <= 0) return "Today";
    if (days === 1) return "Yesterday";
    const year = date.getFullYear() === today.getFullYear() ? {} : { year: "numeric" };
    return date.toLocaleDateString("en", { day: "numeric", month: "short", ...year });
  }

  // What of it the page shows.
  function mark() {
    for (const found of list.children) {
      if (new URL(found.href).search === location.search) found.setAttribute("aria-current", "page");
      else found.removeAttribute("aria-current");
    }
  }

  function onKey(event) {
    const places = [box, ...list.children];
    const at = places.indexOf(document.activeElement);
    if (event.key === "Escape" && box.value) {
      box.value = "";
      box.focus();
      changed();
    } else if (event.key === "ArrowDown" && at < places.length - 1) places[at + 1].focus();
    else if (event.key === "ArrowUp" && at > 0) places[at - 1].focus();
    else return;
    event.preventDefault();
  }

  return {
    start(component) {
      [box, said, list] = ["input", ".said", "nav"].map((selector) => component.querySelector(selector));
      const form = component.querySelector("form");
      box.addEventListener("input", changed);
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        list.querySelector("a")?.focus();
      });
      component.addEventListener("keydown", onKey);
    },
    focus: () => box.focus(),
  };
})();
