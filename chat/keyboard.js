// The keyboard: what can be done without a pointer, and the list of it. Single keys work where nothing is typed, and can
// be switched off: who speaks to the computer would press them by accident.

const parleyKeyboard = (() => {
  const KEPT = "parley-single-keys"; // "off", or nothing.
  let recalled = null; // The prompt of before that stands in the box: its entry and its text.
  let recalling = 0; // The number of the newest reading of one.

  const box = () => document.querySelector("#message textarea");
  const search = () => document.querySelector("#library input[type=search]");
  const stopButton = () => document.querySelector("#message .stop-button");
  const isWriting = () => !["idle", undefined].includes(document.body.dataset.phase);

  // By key: what it does, in words and in fact. `fits` says whether there is such a thing on the page.
  const single = {
    n: { label: "New chat", act: () => parley.open(null) },
    "/": { label: "Search", act: focusSearch, fits: search },
    m: { label: "Write a message", act: () => box()?.focus() },
    j: { label: "Next conversation", act: () => move(1) },
    k: { label: "Previous conversation", act: () => move(-1) },
    "?": { label: "This list", act: () => show() },
  };

  const LISTED = [
    [
      "In the message box",
      [
        ["Enter", "Send"],
        ["Shift Enter", "New line"],
        ["↑", "Your last prompt, while the box is empty; again: the one before"],
        ["Esc", "Stop the reply; else leave the box"],
      ],
    ],
    ["Outside of it", null], // The single keys.
  ];

  function focusSearch() {
    parleySidebar.reveal();
    search().focus();
  }

  function move(by) {
    const links = [...document.querySelectorAll("#conversations a")];
    const at = links.findIndex((link) => link.ariaCurrent);
    const to = links[at < 0 ? (by > 0 ? 0 : -1) : at + by];
    if (!to) return;
    to.click();
    to.scrollIntoView({ block: "nearest" });
    box()?.blur(); // So that the next key isn't typed.
  }

  // ---- Prompts of before, as a terminal has them.

  async function recall(by) {
    const prompts = parley.prompts();
    const at = recalled ? prompts.indexOf(recalled.entry) : prompts.length;
    const entry = prompts[at + by];
    const number = ++recalling;
    const before = box().value;
    if (!entry && by < 0) return;
    const text = entry ? await parley.promptText(entry) : "";
    if (text === null || number !== recalling || box().value !== before) return;
    recalled = entry ? { entry, text } : null;
    box().value = text;
    box().dispatchEvent(new Event("input", { bubbles: true }));
    box().setSelectionRange(text.length, text.length);
  }

  function onBoxKey(event) {
    const { value } = box();
    if (recalled?.text !== value) recalled = null;
    if (event.shiftKey || (value && !recalled)) return;
    if (event.key === "ArrowUp") recall(-1);
    else if (event.key === "ArrowDown" && recalled) recall(1);
    else return;
    event.preventDefault();
  }

  // ---- The list.

  function make(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function section([title, rows]) {
    const keys = Object.entries(single).filter(([, { fits }]) => !fits || fits());
    const listed = (rows ?? keys.map(([key, { label }]) => [key, label])).map(([key, label]) =>
      make("div", {}, make("dt", {}, ...key.split(" ").map((each) => make("kbd", { textContent: each }))), make("dd", { textContent: label })),
    );
    return [make("h3", { textContent: title }), make("dl", {}, ...listed)];
  }

  function show() {
    document.getElementById("shortcuts")?.remove(); // One that was just closed, and does not know it yet.
    const close = make("button", { type: "button", ariaLabel: "Close", textContent: "×" });
    const allowed = make("input", { type: "checkbox", checked: parleyLocal.getItem(KEPT) !== "off" });
    const dialog = make(
      "dialog",
      { id: "shortcuts" },
      make("header", {}, make("h2", { id: "shortcuts-title", textContent: "Keyboard" }), close),
      ...LISTED.flatMap(section),
      make("label", {}, allowed, "Single keys do this outside of the message box"),
    );
    dialog.setAttribute("aria-labelledby", "shortcuts-title");
    dialog.setAttribute("closedby", "any");
    close.onclick = () => dialog.close();
    allowed.onchange = () => (allowed.checked ? parleyLocal.removeItem(KEPT) : parleyLocal.setItem(KEPT, "off"));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  // ---- All keys of the page.

  function onKey(event) {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open], [popover]:popover-open")) return;
    const { target } = event;
    const inBox = target === box();
    const typed = target.closest?.("input, textarea, select, [contenteditable], audio, video, [role=menu]");
    if (typed && !inBox) return;
    if (event.key === "Escape" && target.closest?.("#choice")) return; // It closes the form.
    if (event.key === "Escape") {
      if (isWriting()) stopButton()?.click();
      else if (inBox) box().blur();
    } else if (inBox) onBoxKey(event);
    else if (Object.hasOwn(single, event.key) && !event.repeat) press(single[event.key], event);
  }

  function press({ act, fits }, event) {
    if (parleyLocal.getItem(KEPT) === "off" || (fits && !fits())) return;
    event.preventDefault();
    act();
  }

  return {
    start() {
      document.addEventListener("keydown", onKey);
      const open = make("button", { id: "shortcuts-button", type: "button", textContent: "?", title: "Keyboard shortcuts" });
      open.ariaLabel = open.title;
      open.ariaHasPopup = "dialog";
      open.onclick = show;
      document.querySelector("main.contain").append(open);
    },
  };
})();
