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
    try {
      const response = await fetch(`${window.gradio_config?.root ?? ""}/parley/search`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ query: query.toWellFormed?.() ?? query }),
        signal: mine.signal,
      });
      const answer = await response.json();
      if (mine === asking && query === box.value) {
        const { conversations = [], error } = answer;
        show(conversations, error ?? (conversations.length ? "" : `No results for “${query.trim()}”.`));
      }
    } catch (error) {
      if (error.name !== "AbortError" && mine === asking) {
        show([], "The server can't be reached. Try again in a moment.");
      }
    }
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
      parley.open(id, entry);
      parleySidebar.close(); // Also when it only leads to another message of what is shown.
      mark();
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
