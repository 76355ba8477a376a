// What is said to who doesn't see the page. The conversation's own elements say nothing: a reply that grows would be read
// from its beginning at each word.

const parleySpoken = (() => {
  let place; // The element whose text is read.
  let last = { phase: "idle" }; // What the page showed before.

  // Gradio may not have made it yet.
  function hush() {
    const log = document.querySelector("#conversation [aria-live]");
    if (!log) return requestAnimationFrame(hush);
    log.setAttribute("aria-live", "off");
    log.setAttribute("aria-label", "Conversation");
    log.tabIndex = 0; // It scrolls, also where nothing in it can have the focus.
    group(log);
    new MutationObserver(() => group(log)).observe(log, { childList: true });
  }

  // Gradio says that the examples are a list, of which they are no items. They are there whenever the chat is empty.
  const group = (log) => log.querySelector(".examples")?.setAttribute("role", "group");

  function sentence(phase, { pending }) {
    if (phase !== "idle") return last.phase === "idle" ? "The reply is being written." : null;
    if (last.phase === "idle") return null;
    return pending?.length ? "The reply waits for your decision." : "Reply complete.";
  }

  return {
    start() {
      place = document.createElement("p");
      place.id = "spoken";
      place.role = "status";
      document.querySelector("main.contain").append(place);
      hush();
    },
    // What the page shows: its phase, the conversation that it is about, and its value.
    shows(phase, conversation, value) {
      const elsewhere = last.conversation && last.conversation !== conversation;
      const said = elsewhere ? null : sentence(phase, value);
      if (said) place.textContent = said;
      last = { phase, conversation };
    },
    // A message came back into its box, which a warning says: no reply is being written, nor complete.
    unsent() {
      last.phase = "idle";
      place.textContent = "";
    },
  };
})();
