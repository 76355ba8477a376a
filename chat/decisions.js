// The form above the message box: the tool calls that wait for a decision, one row each. What was decided of several is
// kept here until all are, and then sent together; a page that is loaded anew begins again.

const parleyDecisions = (send) => {
  const ASKS = { approval: "wants to run", question: "asks you", external: "waits for a result" };
  const SAID = { approve: "Approved", deny: "Denied", answer: "Answered" };
  let shown = ""; // What the form is for: the state of the conversation.
  let calls = [];
  let decided = new Map(); // By the call's id,
  let begun = new Map(); // and what is not decided yet: the `mode` of its row, and the `text` that was typed there.
  let sent = false;

  const form = () => document.getElementById("decisions-form");

  // Always by text: a model wrote the words.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  const button = (label, name, onclick, kind = "") =>
    make("button", { type: "button", class: kind, "aria-label": `${label}: ${name}`, onclick }, label);

  // How a call is named to who can't see which row a button is in.
  const named = (call) => (calls.length > 1 ? `${call.tool}, ${calls.indexOf(call) + 1} of ${calls.length}` : call.tool);

  function decide(decisions) {
    if (sent) return;
    for (const decision of decisions) {
      decided.set(decision.id, decision);
      begun.delete(decision.id);
    }
    if (decided.size === calls.length) {
      sent = true;
      document.querySelector("#message textarea")?.focus();
      send({ token: shown, calls: [...decided.values()] });
    }
    paint();
    if (!sent) form().querySelector("[data-open] :is(button, input, textarea)")?.focus();
  }

  const decision = (call, verdict, more = {}) => ({ id: call.id, fingerprint: call.fingerprint, verdict, ...more });

  // An object, or why it is none.
  function broken(text) {
    try {
      const value = JSON.parse(text);
      return value && typeof value === "object" && !Array.isArray(value) ? "" : "This is no JSON object.";
    } catch (error) {
      return `This is not JSON: ${error.message}`;
    }
  }

  function field(call, label, rows, text, done, back) {
    const box = make(rows > 1 ? "textarea" : "input", {
      "aria-label": label,
      rows: rows > 1 ? rows : null,
      placeholder: rows > 1 ? null : label,
      spellcheck: "false",
      oninput: () => begun.set(call.id, { ...begun.get(call.id), text: box.value }),
      onkeydown: (event) => {
        if (event.isComposing) return;
        if (event.key === "Escape") back?.();
        else if (event.key === "Enter" && (rows === 1 || event.ctrlKey || event.metaKey)) done();
        else return;
        event.preventDefault();
      },
    });
    box.value = begun.get(call.id)?.text ?? text;
    return box;
  }

  // One row: its mode is what its buttons are for at the moment.
  function row(call) {
    const mode = begun.get(call.id)?.mode ?? "ask";
    const name = named(call);
    const element = make("div", { class: "call", role: "group", "aria-label": name });
    const become = (next) => {
      begun.set(call.id, { mode: next });
      const replaced = row(call);
      element.replaceWith(replaced);
      replaced.querySelector(next === "ask" ? "button" : "input, textarea")?.focus();
      replaced.scrollIntoView({ block: "nearest" });
    };
    element.append(make("p", {}, make("strong", {}, call.tool), ` ${ASKS[call.kind]}`));
    if (call.question) element.append(make("p", { class: "question" }, call.question));
    const chosen = decided.get(call.id);
    if (mode === "edit") edit(element, call, name, become);
    else {
      if (!call.question) element.append(make("pre", { tabindex: "0", "aria-label": `Arguments of ${name}` }, call.arguments));
      if (chosen) settled(element, call, name, chosen);
      else if (mode === "deny") deny(element, call, name, become);
      else if (call.kind === "approval") approve(element, call, name, become);
      else answer(element, call, name, become);
    }
    if (!chosen) element.dataset.open = "";
    for (const control of sent ? element.querySelectorAll("button, input, textarea") : []) control.disabled = true;
    return element;
  }

  function settled(element, call, name, chosen) {
    if (chosen.arguments) element.querySelector("pre").textContent = chosen.arguments;
    const how = chosen.arguments ? "Approved as edited" : SAID[chosen.verdict];
    const change = () => {
      decided.delete(call.id);
      paint();
    };
    element.append(make("div", { class: "buttons" }, make("span", {}, how), sent ? null : button("Change", name, change)));
  }

  function approve(element, call, name, become) {
    element.append(
      make(
        "div",
        { class: "buttons" },
        button("Approve", name, () => decide([decision(call, "approve")]), "main"),
        button("Edit", name, () => become("edit")),
        button("Deny", name, () => become("deny")),
      ),
    );
  }

  function deny(element, call, name, become) {
    const done = () => decide([decision(call, "deny", { text: reason.value })]);
    const back = () => become("ask");
    const reason = field(call, "Why not? (optional)", 1, "", done, back);
    element.append(reason, make("div", { class: "buttons" }, button("Deny", name, done, "main"), button("Back", name, back)));
  }

  function edit(element, call, name, become) {
    const back = () => become("ask");
    const problem = make("p", { role: "alert", class: "problem" });
    const done = () => {
      problem.textContent = broken(text.value);
      if (!problem.textContent) decide([decision(call, "approve", { arguments: text.value })]);
    };
    const rows = Math.min(12, Math.max(3, call.arguments.split("\n").length));
    const text = field(call, `Arguments of ${name}, as JSON`, rows, call.arguments, done, back);
    const approve = button("Approve as edited", name, done, "main");
    element.append(text, problem, make("div", { class: "buttons" }, approve, button("Back", name, back)));
  }

  function answer(element, call, name, become) {
    const done = () => {
      if (text.value.trim()) decide([decision(call, "answer", { text: text.value })]);
      else text.focus();
    };
    const label = call.kind === "question" ? "Your answer" : "The result, as JSON or text";
    const text = field(call, `${label}: ${name}`, 2, "", done, null);
    text.placeholder = label;
    const send = button(call.kind === "question" ? "Answer" : "Give result", name, done, "main");
    element.append(text, make("div", { class: "buttons" }, send, button("Decline", name, () => become("deny"))));
  }

  function all() {
    const open = calls.filter((call) => call.kind === "approval" && !decided.has(call.id));
    if (open.length < 2) return null;
    const every = (verdict) => () => decide(open.map((call) => decision(call, verdict)));
    return make(
      "div",
      { class: "buttons all" },
      make("button", { type: "button", onclick: every("approve") }, "Approve all"),
      make("button", { type: "button", onclick: every("deny") }, "Deny all"),
    );
  }

  function paint() {
    if (!form()) return;
    const title = calls.length > 1 ? `${decided.size} of ${calls.length} decided` : "Waiting for your decision";
    const head = make("div", { class: "head" }, make("h2", {}, make("span", { role: "status" }, title)), all());
    const instead = make("p", { class: "instead" }, "A message instead denies what waits here.");
    form().replaceChildren(...(calls.length ? [head, ...calls.map((call) => row(call)), instead] : []));
    form().hidden = !calls.length;
  }

  return {
    // What a frame says: it is left alone while it is for the same, so that nobody's words are lost.
    show({ pending, token }) {
      const next = pending?.length ? token : "";
      if (next === shown && !sent) return;
      // Those for the same that were sent were refused.
      [shown, calls, decided, begun, sent] = [next, next ? pending : [], new Map(), new Map(), false];
      paint();
    },
  };
};
