// The page's own script: keeps the address true, listens to the server's announcements, and asks for a watch when what
// the page shows is no longer what the server has. Gradio's components call it by the name `parley`.

const parley = (() => {
  const announced = {}; // The newest token of each conversation, as announced.
  let props, trigger; // The `status` component's: its value is the state of the page, its events go to the server.
  let source = null; // The open announcements.
  let pending = null; // The message on its way: its number and text.
  let accepted = ""; // The text of the message that the server took last.
  let painted = Date.now(); // When the last frame came.

  // What is typed outlives a reload, which Gradio makes by itself after a lost connection.
  const draft = {
    get text() {
      return sessionStorage.getItem("parley-draft") ?? "";
    },
    set text(text) {
      sessionStorage.setItem("parley-draft", text);
    },
  };

  const inAddress = () => new URLSearchParams(location.search).get("c");
  const status = () => props.value || {};
  const scroller = () => document.querySelector("#conversation .bubble-wrap");

  function setAddress(conversation, change) {
    const address = new URL(location.href);
    if (conversation) address.searchParams.set("c", conversation);
    else address.searchParams.delete("c");
    history[change](null, "", address);
  }

  function refresh() {
    painted = Date.now();
    props.value = { ...status(), conversation: inAddress(), accepted: null, refused: null };
    trigger("apply");
  }

  function show() {
    props.value = { ...status(), phase: "idle", notice: "", window: 0 };
    refresh();
    listen();
    mark();
  }

  // Beside the conversation where there is room; on a phone it would cover it. Gradio may not have made it yet.
  function openLibrary() {
    const library = document.querySelector("#library .toggle-button")?.parentElement;
    if (!library) requestAnimationFrame(openLibrary);
    else if (innerWidth >= 1024 && !library.classList.contains("open")) library.querySelector(".toggle-button").click();
  }

  // The current conversation in the list.
  function mark() {
    for (const link of document.querySelectorAll("#conversations a")) {
      if (link.dataset.id === inAddress()) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  // Ask for a watch when the newest announcement is not what the page shows and nothing is on its way to it.
  function compare() {
    const { phase, token, conversation } = status();
    const news = announced[inAddress()];
    if (pending || !inAddress() || phase !== "idle") return;
    if ((news && news !== token) || conversation !== inAddress()) refresh();
  }

  function settle({ conversation, accepted: taken, refused }) {
    if (!pending) return;
    if (refused === pending.sent) pending = null;
    else if (taken === pending.sent) {
      accepted = pending.text;
      pending = null;
      if (draft.text === accepted) draft.text = "";
      if (conversation && !inAddress()) {
        setAddress(conversation, "pushState");
        listen();
      }
      trigger("clear");
      trigger("input");
    }
  }

  // Earlier messages appear above what is being read, which stays where it is while they come in.
  function keepPlace() {
    const scroll = scroller();
    const below = scroll.scrollHeight - scroll.scrollTop;
    const observer = new MutationObserver(() => (scroll.scrollTop = scroll.scrollHeight - below));
    observer.observe(scroll, { childList: true, subtree: true });
    setTimeout(() => observer.disconnect(), 1000);
  }

  // A draft that was sent just before the connection was lost may have arrived.
  function restoreDraft() {
    const last = [...document.querySelectorAll("#conversation .user.message")].at(-1)?.innerText.trim();
    if (sessionStorage.getItem("parley-sent") === draft.text && last === draft.text.trim()) draft.text = "";
    if (draft.text) trigger("clear");
  }

  function onFrame() {
    const value = status();
    painted = Date.now();
    if (!document.body.dataset.phase) requestAnimationFrame(restoreDraft);
    document.body.dataset.phase = value.phase;
    document.body.dataset.earlier = value.earlier ? "yes" : "no";
    settle(value);
    if (value.conversation === null && value.notice && inAddress()) setAddress(null, "replaceState");
    mark();
    compare();
  }

  function listen() {
    source?.close();
    const address = new URL((window.gradio_config?.root ?? "") + "/parley/announcements", location.href);
    if (inAddress()) address.searchParams.set("c", inAddress());
    source = new EventSource(address);
    let first = true;
    let lost = false;
    source.onmessage = (message) => {
      Object.assign(announced, JSON.parse(message.data));
      // With the connection, the watch of this page was lost, whatever it showed last.
      if (first && lost && inAddress()) refresh();
      if (!first || lost) trigger("input");
      first = lost = false;
      compare();
    };
    source.onerror = () => {
      first = lost = true;
    };
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else listen();
  });
  addEventListener("popstate", show);
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("#message textarea")) draft.text = event.target.value;
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("#conversations a");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    parley.open(link.dataset.id);
  });
  document.addEventListener(
    "scroll",
    (event) => {
      if (event.target === scroller()) document.body.dataset.top = event.target.scrollTop < 80 ? "yes" : "no";
    },
    true,
  );
  setInterval(() => {
    const { phase, keepalive } = props ? status() : {};
    if (pending && Date.now() - pending.sent > 10_000) pending = null; // It never arrived; its text is in the box.
    if (!document.hidden && phase && phase !== "idle" && Date.now() - painted > 2500 * keepalive) refresh();
  }, 1000);

  return {
    start(itsProps, itsTrigger, watch) {
      [props, trigger] = [itsProps, itsTrigger];
      watch("value", onFrame);
      listen();
      openLibrary();
    },
    open(conversation) {
      if (conversation !== inAddress()) setAddress(conversation, "pushState");
      show();
      document.querySelector("#message textarea")?.focus();
    },
    // What the events' `js` do before they go to the server.
    opened: (value) => ({ ...value, conversation: inAddress() }),
    sending(text, value) {
      pending = { sent: Date.now(), text };
      sessionStorage.setItem("parley-sent", text);
      return [text, { ...value, conversation: inAddress(), sent: pending.sent }];
    },
    boxed: (text) => (text && text === accepted ? "" : text || draft.text),
    earlier(value) {
      keepPlace();
      return { ...value, conversation: inAddress(), window: value.window + 40 };
    },
  };
})();
