// The sidebar's list: an owner's conversations by day, their signs, and a menu for each. It is read from the server page
// by page; later only those that an announcement named are read again. All that a person wrote is set as text.

const parleySidebar = (() => {
  const CHANGES_MS = 300; // The list can wait for the words, and one reading serves for several changes.
  const UNDO_MS = 8000;
  const MOST_NAMED = 100; // As on the server.
  const PLACES = ["archived", "listed", "pinned"];
  const SIGNS = { writing: "being written", waiting: "waiting for your decision", unread: "unread" };

  // What can be done with a conversation, in the menu's order. `act` gets it as the server lists it: `id`, `title`, `at`,
  // `place` and `sign`. Other scripts may add to it.
  const menu = [
    { label: () => "Rename", act: rename },
    {
      label: ({ place }) => (place === "pinned" ? "Unpin" : "Pin"),
      act: ({ id, place }) => change(id, { place: place === "pinned" ? "listed" : "pinned" }),
    },
    {
      label: ({ place }) => (place === "archived" ? "Unarchive" : "Archive"),
      act: ({ id, place }) => change(id, { place: place === "archived" ? "listed" : "archived" }),
    },
    { label: () => "Delete", act: remove, danger: true },
  ];

  // What the menu below the list offers: `label` and `act`. Other scripts may add to it, before the page is there.
  const foot = [];

  const known = new Map(); // What the server lists, by id.
  const shown = new Map(); // The element of each, by id.
  let list, trigger; // The list's element; says a sentence as the `conversations` component's event.
  let archived = false; // Which list it is.
  let more = null; // Where its next page begins.
  let reading = 0; // The number of the newest reading from the start: what an older one brings is not taken.
  let current = null; // The conversation that the page shows.
  let changed = new Set(); // What was announced and is not read yet,
  let due = 0; // and the timer of its reading.

  // ---- The server.

  const root = () => `${window.gradio_config?.root ?? ""}/parley/conversations`;

  async function request(path, options) {
    try {
      const response = await fetch(root() + path, options);
      const answer = await response.json();
      if (response.ok) return answer;
      if (response.status !== 404 || options) warn(answer.error);
    } catch {
      if (options) warn("The server can't be reached. Try again in a moment.");
    }
    return null;
  }

  const warn = (sentence) => trigger("warning", sentence);

  async function change(id, fields) {
    const headers = { "content-type": "application/json" };
    const options = { method: "PATCH", headers, body: JSON.stringify(fields) };
    const answer = await request(`/${encodeURIComponent(id)}`, options);
    if (answer) take([id], answer.conversations);
    return answer !== null;
  }

  async function read() {
    const number = ++reading;
    const answer = await request(archived ? "?archived=1" : "");
    if (!answer || number !== reading) return;
    known.clear();
    more = answer.more;
    take([], answer.conversations);
  }

  async function readMore() {
    const [number, after] = [reading, more];
    if (!after) return;
    more = null; // Once.
    const answer = await request(`?${new URLSearchParams({ after, ...(archived && { archived: 1 }) })}`);
    if (number !== reading) return;
    more = answer ? answer.more : after;
    if (answer) take([], answer.conversations);
  }

  async function readChanged() {
    const ids = [...changed];
    changed.clear();
    due = 0;
    if (ids.length > MOST_NAMED) return read();
    const answer = await request(`?${new URLSearchParams(ids.map((id) => ["id", id]))}`);
    if (answer) take(ids, answer.conversations);
  }

  function readSoon(ids) {
    for (const id of ids) if (id) changed.add(id);
    if (changed.size) due ||= setTimeout(readChanged, CHANGES_MS);
  }

  // What the server says of conversations now; those of `asked` that it says nothing of are gone.
  function take(asked, conversations) {
    for (const id of asked) known.delete(id);
    for (const conversation of conversations) known.set(conversation.id, conversation);
    paint();
  }

  // ---- The list.

  const rank = ({ place }) => PLACES.indexOf(place);
  // The newest first, as the server has them: its times and ids compare as texts.
  const newer = (a, b) => (a === b ? 0 : a > b ? -1 : 1);
  const order = (a, b) => rank(b) - rank(a) || newer(a.at, b.at) || newer(a.id, b.id);

  function isListed(conversation) {
    if ((conversation.place === "archived") !== archived) return false;
    if (!more) return true;
    // One that belongs further down comes with its page.
    const [place, at] = more.split(" ", 2);
    const id = more.slice(place.length + at.length + 2);
    return order(conversation, { place, at, id }) <= 0;
  }

  function heading({ place, at }, today) {
    if (place === "pinned") return "Pinned";
    const date = new Date(at);
    const days = Math.round((today - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
    if (days <= 0) return "Today";
    if (days === 1) return "Yesterday";
    if (days <= 7) return "Last 7 days";
    const year = date.getFullYear() === new Date(today).getFullYear() ? {} : { year: "numeric" };
    return date.toLocaleDateString("en", { month: "long", ...year });
  }

  function paint() {
    const today = new Date().setHours(0, 0, 0, 0);
    const conversations = [...known.values()].filter(isListed).sort(order);
    const wanted = [];
    let last = null;
    for (const conversation of conversations) {
      const title = heading(conversation, today);
      if (title !== last) wanted.push(element("h2", { textContent: (last = title) }));
      wanted.push(rowOf(conversation));
    }
    if (!conversations.length) wanted.push(element("p", { textContent: archived ? "Nothing is archived." : "What you talk about will be listed here." }));
    place(wanted);
    for (const id of shown.keys()) if (!known.has(id)) shown.delete(id);
    mark();
  }

  // Only what moves is moved: what has the focus, or is being renamed, stays as it is.
  function place(wanted) {
    const kept = new Set(wanted);
    for (const child of [...list.children]) if (!kept.has(child)) child.remove();
    wanted.forEach((child, index) => {
      if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
    });
  }

  function rowOf(conversation) {
    const row = shown.get(conversation.id) ?? makeRow(conversation.id);
    const [link, button] = [row.querySelector("a"), row.querySelector("button")];
    const [title, sign] = link.children;
    if (title.textContent !== conversation.title) {
      link.title = title.textContent = conversation.title;
      button.ariaLabel = `More for “${conversation.title}”`;
    }
    sign.className = `sign ${conversation.sign ?? ""}`;
    sign.hidden = !conversation.sign;
    sign.title = sign.ariaLabel = SIGNS[conversation.sign] ?? "";
    return row;
  }

  function makeRow(id) {
    const title = element("span", { className: "title", dir: "auto" });
    const sign = element("span", { role: "img" });
    const link = element("a", { href: `?c=${encodeURIComponent(id)}` }, title, sign);
    link.dataset.id = id;
    const button = element("button", { type: "button", textContent: "⋯", ariaHasPopup: "menu", ariaExpanded: "false" });
    button.onclick = () => openMenu(button, id);
    const row = element("div", { className: "conversation" }, link, button);
    shown.set(id, row);
    return row;
  }

  function mark() {
    for (const [id, row] of shown) {
      const link = row.querySelector("a");
      if (id === current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // ---- The menu.

  function openMenu(button, id) {
    const conversation = known.get(id);
    if (!conversation) return;
    const items = menu.map(({ label, act, danger }) => ({ label: label(conversation), act: () => act(conversation), danger }));
    parleyMenu.open(button, button.ariaLabel, items);
  }

  // ---- What the menu does.

  function rename({ id, title }) {
    const row = shown.get(id);
    const input = element("input", { value: title, ariaLabel: "Title", autocomplete: "off" });
    let ended = false;
    async function end(save) {
      if (ended) return;
      ended = true;
      const wanted = input.value.trim();
      if (!save || wanted === title || (await change(id, { title: wanted }))) {
        const focused = document.activeElement === input;
        input.remove();
        row.classList.remove("renaming");
        if (focused) row.querySelector("a").focus();
      } else {
        ended = false;
        input.focus();
      }
    }
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) end(true);
      if (event.key === "Escape") end(false);
      event.stopPropagation();
    });
    input.addEventListener("blur", () => end(input.value.trim() !== ""));
    row.prepend(input);
    row.classList.add("renaming");
    input.focus();
    input.select();
  }

  async function remove({ id, title }) {
    const wasCurrent = id === current;
    if (wasCurrent) parley.open(null); // Before it is announced: a page that shows it then says that it is gone.
    if (!(await change(id, { deleted: true }))) return wasCurrent && parley.open(id);
    offerUndo(`Deleted “${title}”.`, async () => {
      if ((await change(id, { deleted: false })) && wasCurrent) parley.open(id);
    });
  }

  function offerUndo(sentence, undo) {
    const said = element("span", { textContent: sentence, dir: "auto" });
    const button = element("button", { type: "button", textContent: "Undo" });
    const offer = element("div", { className: "undo", role: "status" }, said, button);
    const end = () => offer.remove();
    let timer = setTimeout(end, UNDO_MS);
    // Whoever is about to press it gets the time to.
    offer.addEventListener("pointerenter", () => clearTimeout(timer));
    offer.addEventListener("focusin", () => clearTimeout(timer));
    offer.addEventListener("pointerleave", () => (timer = setTimeout(end, UNDO_MS)));
    button.onclick = () => {
      end();
      undo();
    };
    document.getElementById("undo").append(offer);
  }

  // ---- The sidebar itself.

  const drawer = () => document.querySelector("#library .toggle-button")?.parentElement;
  const isBeside = () => innerWidth >= 1024; // Else it covers the conversation.

  // Gradio may not have made it yet.
  function openDrawer() {
    if (!drawer()) requestAnimationFrame(openDrawer);
    else if (isBeside() && !drawer().classList.contains("open")) drawer().querySelector(".toggle-button").click();
  }

  function closeDrawer() {
    if (!isBeside() && drawer()?.classList.contains("open")) drawer().querySelector(".toggle-button").click();
  }

  function switchList(button) {
    archived = !archived;
    button.textContent = archived ? "← Conversations" : "Archived";
    known.clear();
    more = null;
    paint();
    read();
  }

  function onClick(event) {
    const link = event.target.closest("a");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    parley.open(link.dataset.id);
  }

  return {
    menu,
    foot,
    start(component, itsTrigger) {
      trigger = itsTrigger;
      list = component.querySelector("nav");
      const end = element("div", { className: "end" });
      const other = element("button", { type: "button", className: "archived", textContent: "Archived" });
      other.onclick = () => switchList(other);
      const offers = element("button", { type: "button", textContent: "More", ariaHasPopup: "menu", ariaExpanded: "false" });
      offers.onclick = () => parleyMenu.open(offers, "More", foot);
      list.after(end);
      list.parentElement.after(element("div", { className: "foot" }, other, offers));
      document.body.append(element("div", { id: "undo" }));
      list.addEventListener("click", onClick);
      const watching = new IntersectionObserver((entries) => {
        if (entries.some((entry) => entry.isIntersecting)) readMore().then(() => watchAgain());
      });
      // Told anew also when the end is still in sight.
      const watchAgain = () => {
        watching.unobserve(end);
        if (more) watching.observe(end);
      };
      const painted = new MutationObserver(watchAgain);
      painted.observe(list, { childList: true });
      openDrawer();
      read();
    },
    // The page shows another conversation; none is a new chat.
    mark(conversation) {
      if (current === conversation) return;
      current = conversation;
      mark();
      closeDrawer();
    },
    // Announcements come again; some may have been missed.
    connected(missed) {
      if (missed) read();
      // One that ended between two connections was not announced here.
      else readSoon([...known.values()].filter(({ sign }) => sign).map(({ id }) => id));
    },
    changed: readSoon,
    reveal() {
      if (!drawer()?.classList.contains("open")) drawer()?.querySelector(".toggle-button").click();
    },
    close: closeDrawer,
  };
})();
