// Conversations out and in: what the menu of a conversation and the one below the list offer for it. All of it is done by
// the server's own routes; here are the dialogs. What a person wrote is set as text.

(() => {
  const FORMS = [
    ["markdown", "Markdown", "To read. Files lie beside it, in a zip."],
    ["json", "JSON", "To keep, or to import again: all versions, as they are stored."],
    ["case", "Test case", "To ask your agent the same again: prompts, replies, and what its tools returned."],
  ];

  const root = () => `${window.gradio_config?.root ?? ""}/parley`;
  const address = (path) => new URL(root() + path, location.href).href;

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  const paragraph = (textContent, className = "") => element("p", { textContent, className });
  const button = (textContent, onclick, className = "") =>
    element("button", { type: "button", textContent, onclick, className });

  // A dialog with a heading, and what it is closed with. It goes when it is closed.
  function open(heading, ...children) {
    const title = element("h2", { textContent: heading, dir: "auto" });
    const close = button("Close", () => dialog.close(), "close");
    const body = element("div", { className: "body" }, ...children);
    const dialog = element("dialog", { className: "exchange" }, title, body, close);
    dialog.ariaLabel = heading;
    dialog.onclose = () => dialog.remove();
    // A press beside it closes it, too.
    dialog.onpointerdown = ({ target }) => target === dialog && dialog.close();
    document.body.append(dialog);
    dialog.showModal();
    return { dialog, show: (...others) => body.replaceChildren(...others) };
  }

  // What the server answers; `said` is why it can't do it.
  async function ask(path, options) {
    try {
      const response = await fetch(address(path), options);
      const text = await response.text();
      const answer = text.startsWith("{") ? JSON.parse(text) : { said: text };
      return response.ok ? answer : { refused: answer.said || "This can't be done now. Try again in a moment." };
    } catch {
      return { refused: "The server can't be reached. Try again in a moment." };
    }
  }

  function download(path) {
    const link = element("a", { href: address(path), download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  }

  // ---- Out.

  function exportOne({ id, title }) {
    const choices = FORMS.map(([form, label, words]) => {
      const choice = button("", () => {
        download(`/export/${encodeURIComponent(id)}?as=${form}`);
        dialog.close();
      });
      choice.className = "choice";
      choice.append(element("strong", { textContent: label }), element("span", { textContent: words }));
      return choice;
    });
    const { dialog } = open(`Export “${title}”`, ...choices);
  }

  function exportAll() {
    const id = Math.random().toString(36).slice(2); // Only this visitor's zips are asked for by it.
    const bar = element("progress", {});
    const words = paragraph("The zip is being made …");
    words.role = "status";
    const note = paragraph("It goes on when you close this.", "note");
    const { dialog } = open("Export everything", words, bar, note);
    download(`/export?id=${id}`);
    const told = new EventSource(address(`/export-progress?id=${id}`));
    dialog.addEventListener("close", () => told.close());
    told.onmessage = ({ data }) => {
      const progress = JSON.parse(data);
      if (progress === null) {
        told.close();
        words.textContent = "All conversations are in your downloads.";
        note.remove();
        bar.value = bar.max = 1;
      } else if (progress.total) {
        [bar.max, bar.value] = [progress.total, progress.done];
        words.textContent = `${progress.done} of ${progress.total} conversations`;
      }
    };
  }

  // ---- In.

  function choose() {
    const input = element("input", { type: "file", accept: ".json,.zip,.csv" });
    input.onchange = () => input.files.length && take(input.files[0]);
    input.click();
  }

  async function take(file) {
    const waits = paragraph(`${file.name} is being read …`);
    waits.role = "status";
    const { dialog, show } = open("Import", waits, element("progress", {}));
    const answer = await ask("/import", { method: "POST", body: file });
    const said = paragraph(answer.refused ?? answer.said, answer.refused ? "refused" : "");
    said.role = "status";
    const one = answer.conversations?.length === 1;
    const openIt = button(
      "Open it",
      () => {
        dialog.close();
        parley.open(answer.conversations[0]);
      },
      "main",
    );
    show(said, ...(one ? [openIt] : []));
  }

  // ---- Links.

  const choice = (label) => {
    const box = element("input", { type: "checkbox" });
    return [box, element("label", {}, box, element("span", { textContent: label }))];
  };

  function share({ id, title }) {
    const [tools, toolsLabel] = choice("Show what tools were called with, and their results");
    const [thinking, thinkingLabel] = choice("Show the thinking");
    const make = button("Create link", create, "main");
    const note = paragraph("Whoever has the link can read this conversation as it is now. What is said later stays yours.");
    const { show } = open(`Share “${title}”`, note, toolsLabel, thinkingLabel, make);

    async function create() {
      make.disabled = true;
      const asked = new URLSearchParams({ conversation: id, tools: +tools.checked, thinking: +thinking.checked });
      const answer = await ask(`/shares?${asked}`, { method: "POST" });
      if (answer.refused) return show(paragraph(answer.refused, "refused"));
      const value = address(answer.path);
      const link = element("input", { readOnly: true, value, ariaLabel: "Link" });
      const copy = button("Copy", () => copyOut(link, copy), "main");
      link.onfocus = () => link.select();
      const line = element("div", { className: "line" }, link, copy);
      show(line, paragraph("Keep it: it is not shown again. “Shared links”, under “More” below your conversations, ends it.", "note"));
      copy.focus();
    }
  }

  async function copyOut(link, copy) {
    link.select();
    try {
      await navigator.clipboard.writeText(link.value);
    } catch {
      document.execCommand("copy"); // On plain http there is no other way.
    }
    copy.textContent = "Copied";
  }

  async function listLinks() {
    const { show } = open("Shared links", element("progress", {}));
    const answer = await ask("/shares");
    if (answer.refused) return show(paragraph(answer.refused, "refused"));
    const rows = answer.shares.map((item) => row(item, (left) => left || show(nothing())));
    show(...(rows.length ? [element("ul", {}, ...rows)] : [nothing()]));
  }

  const nothing = () => paragraph("You share nothing. A conversation's menu has Share.");

  function row(item, onRevoked) {
    const date = new Date(item.at).toLocaleDateString("en", { day: "numeric", month: "long", year: "numeric" });
    const shown = [item.tools && "tools", item.thinking && "thinking"].filter(Boolean).join(" and ");
    const details = element("small", { textContent: shown ? `${date} · with ${shown}` : date });
    const title = element("a", { href: `?c=${encodeURIComponent(item.conversation)}`, textContent: item.title, dir: "auto" });
    const revoke = button("Revoke", async () => {
      revoke.disabled = true;
      const answer = await ask(`/shares/${item.id}/revoke`, { method: "POST" });
      if (answer.refused) details.textContent = answer.refused;
      else {
        const list = made.parentElement;
        made.remove();
        onRevoked(list.children.length);
      }
    });
    revoke.ariaLabel = `Revoke the link to “${item.title}”`;
    const made = element("li", {}, element("div", {}, title, details), revoke);
    return made;
  }

  parleySidebar.menu.splice(-1, 0, { label: () => "Share …", act: share }, { label: () => "Export …", act: exportOne });
  parleySidebar.foot.push(
    { label: "Import", act: choose },
    { label: "Export everything", act: exportAll },
    { label: "Shared links", act: listLinks },
  );
})();
