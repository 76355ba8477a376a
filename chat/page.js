// The page's own script: keeps the address true, listens to the server's announcements, and asks for a watch when what
// the page shows is no longer what the server has. Gradio's components call it by the name `parley`.

const parley = (() => {
  const announced = {}; // The newest token of each conversation, as announced.
  let props, trigger; // The `status` component's: its value is the state of the page, its events go to the server.
  let source = null; // The open announcements.
  let pending = null; // The message on its way: its number, text and files.
  let returned = null; // A message that was not sent, on its way back to the box.
  let painted = Date.now(); // When the last frame came.
  let span = null; // The part of the conversation that is asked for; none is the newest.
  let asked = null; // The same, until it is shown.
  let chosenFor = null; // The conversation whose choices the form shows.
  let chosen = null; // The decisions on their way.
  let action = null; // What is done at a message, on its way: `wanted`, when it was `sent`, and what it gives back.

  // What is typed outlives a reload, which Gradio makes by itself after a lost connection.
  const draft = {
    get text() {
      return parleySession.getItem("parley-draft") ?? "";
    },
    set text(text) {
      parleySession.setItem("parley-draft", text);
    },
  };

  const inAddress = () => new URLSearchParams(location.search).get("c");
  const messageInAddress = () => new URLSearchParams(location.search).get("m");
  const spanInAddress = () => (messageInAddress() ? { around: messageInAddress() } : null);
  const status = () => props?.value || {};
  const scroll = parleyScroll(status, ask);
  const decisions = parleyDecisions((made) => {
    chosen = made;
    scroll.follow();
    trigger("submit");
  });

  const messageBar = parleyMessageBar(status, act, addressOf, (sentence) => trigger("warning", sentence));

  function addressOf(entry) {
    const address = new URL(location.pathname, location.href);
    address.searchParams.set("c", inAddress());
    address.searchParams.set("m", entry);
    return address.href;
  }

  // Nothing is done twice: what was begun is done, or never arrived.
  const acting = () => action && Date.now() - action.sent < 5000;

  function act(wanted, back = null) {
    if (pending || status().phase !== "idle" || acting()) return null;
    action = { wanted, back, sent: Date.now() };
    if (wanted.do !== "switch") scroll.follow();
    parleyMessageBar.trigger("submit");
    return action.sent;
  }

  function settleAction({ acted, failed, opened }) {
    if (!action || acted !== action.sent) return;
    const { back } = action;
    action = null;
    if (failed) return;
    if (opened && opened !== inAddress()) {
      setAddress(opened, "pushState");
      listen();
    } else leaveMessage();
    if (back?.text) {
      returned = { text: back.text, files: [] };
      trigger("clear");
    }
    if (back?.files.length) parleyAttachments.again(back.files);
  }

  // What the server knows better needn't travel to it.
  const light = ({ turns, counts, pending, ...value }) => value;

  function setAddress(conversation, change, message = null) {
    const address = new URL(location.href);
    for (const [name, value] of Object.entries({ c: conversation, m: message })) {
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    history[change](null, "", address);
  }

  // Who has gone on from the message that the address names doesn't want to be there again after a reload.
  function leaveMessage() {
    if (messageInAddress()) setAddress(inAddress(), "replaceState");
  }

  function refresh() {
    painted = Date.now();
    props.value = { ...status(), conversation: inAddress(), span, accepted: null, refused: null };
    trigger("apply");
  }

  function show() {
    props.value = { ...status(), phase: "idle", notice: "", pending: [], target: null };
    span = spanInAddress();
    scroll.follow();
    refresh();
    listen();
    parleySidebar.mark(inAddress());
  }

  function ask(part) {
    if (asked || pending || status().conversation !== inAddress()) return;
    span = asked = part;
    refresh();
  }

  // Ask for a watch when the newest announcement is not what the page shows and nothing is on its way to it.
  function compare() {
    const { phase, token, conversation } = status();
    const news = announced[inAddress()];
    if (pending || acting() || !inAddress() || phase !== "idle") return;
    if ((news !== undefined && news !== token) || conversation !== inAddress()) refresh();
  }

  function settle({ conversation, accepted, refused }) {
    if (!pending) return;
    if (refused === pending.sent) giveBack();
    else if (accepted === pending.sent) {
      if (draft.text === pending.text) draft.text = "";
      pending = null;
      if (conversation && !inAddress()) {
        setAddress(conversation, "pushState");
        listen();
      } else leaveMessage();
    }
  }

  const inert = (name) => name.replace(/[^\p{L}\p{N} .,()-]/gu, (mark) => `&#${mark.codePointAt(0)};`);
  const said = (text) => ({ role: "user", content: [{ type: "text", text }], metadata: {}, options: null });

  function giveBack() {
    returned = pending;
    pending = null;
    parleySpoken.unsent();
    trigger("clear");
  }

  // A draft that was sent just before the connection was lost may have arrived.
  function restoreDraft() {
    const last = [...document.querySelectorAll("#conversation .user.message")].at(-1)?.innerText.trim();
    if (parleySession.getItem("parley-sent") === draft.text && last === draft.text.trim()) draft.text = "";
    if (draft.text) trigger("clear");
  }

  function onFrame() {
    const value = status();
    painted = Date.now();
    if (!document.body.dataset.phase) requestAnimationFrame(restoreDraft);
    settle(value);
    settleAction(value);
    // A message has taken what was chosen before it; another conversation has its own.
    if (value.conversation !== chosenFor) {
      chosenFor = value.conversation;
      parleyChoices.forget();
      trigger("select");
    }
    document.body.dataset.phase = pending ? "sending" : value.phase;
    parleySpoken.shows(document.body.dataset.phase, inAddress(), value);
    asked = null;
    decisions.show(value.conversation === inAddress() ? value : {});
    messageBar.frame(value);
    if (value.target != null) scroll.find();
    if (span) span = scroll.following ? null : { first: value.first, last: value.last };
    if (value.conversation === null && value.notice && inAddress()) setAddress(null, "replaceState");
    parleySidebar.mark(inAddress());
    compare();
  }

  // `missed` says that something may have been announced while nothing listened.
  function listen(missed = false) {
    source?.close();
    const address = new URL((window.gradio_config?.root ?? "") + "/parley/announcements", location.href);
    if (inAddress()) address.searchParams.set("c", inAddress());
    source = new EventSource(address);
    let first = true;
    let lost = false;
    source.onmessage = (message) => {
      const news = Object.entries(JSON.parse(message.data));
      for (const [conversation, token] of news) if (token !== "") announced[conversation] = token;
      // With the connection, the watch of this page was lost, whatever it showed last.
      if (first && lost && inAddress()) refresh();
      if (first) parleySidebar.connected(missed || lost);
      else parleySidebar.changed(news.map(([conversation]) => conversation));
      first = lost = false;
      compare();
    };
    source.onerror = () => {
      first = lost = true;
    };
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else listen(true);
  });
  addEventListener("popstate", show);
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("#message textarea")) draft.text = event.target.value;
  });
  setInterval(() => {
    const { phase, keepalive } = props ? status() : {};
    if (pending && Date.now() - pending.sent > 10_000) {
      giveBack(); // It never arrived.
      refresh();
    }
    if (!document.hidden && phase && phase !== "idle" && Date.now() - painted > 2500 * keepalive) refresh();
  }, 1000);

  return {
    start(itsProps, itsTrigger, watch) {
      [props, trigger] = [itsProps, itsTrigger];
      parleyAttachments.start((sentence) => trigger("warning", sentence));
      watch("value", onFrame);
      listen();
      scroll.start();
      parleyKeyboard.start();
      parleySpoken.start();
    },
    open(conversation, message = null) {
      if (conversation !== inAddress() || message !== messageInAddress()) setAddress(conversation, "pushState", message);
      show();
      document.querySelector("#message textarea")?.focus();
    },
    prompts: () => (status().turns ?? []).map(({ prompt }) => prompt),
    promptText: (entry) => messageBar.textOf(entry),
    newest() {
      setAddress(inAddress(), "replaceState");
      span = asked = null;
      status().target = null;
      const elsewhere = status().last != null;
      if (elsewhere) asked = {}; // Nothing else is asked for on the way there.
      scroll.follow();
      if (elsewhere) refresh();
    },
    // What the events' `js` do before they go to the server, and instead of going there.
    opened: (value) => ({ ...value, conversation: inAddress(), span: (span = spanInAddress()) }),
    typed(message, messages) {
      const { text, files } = message;
      if ((!text.trim() && !files.length) || pending || status().phase !== "idle") return [message, messages];
      pending = { sent: Date.now(), text, files: [...files] };
      parleySession.setItem("parley-sent", text);
      document.body.dataset.phase = "sending";
      parleySpoken.shows("sending", inAddress(), status()); // A short reply may be complete in the first frame of it.
      scroll.follow();
      const names = files.map(parleyAttachments.nameOf).map(inert);
      const shown = [...names, text.slice(0, 20_000)].filter((each) => each.trim()).map(said);
      return [{ text: "", files: [] }, status().last == null ? [...messages, ...shown] : messages];
    },
    sending(message, value) {
      span = null;
      const first = pending && !pending.sending;
      if (first) pending.sending = true;
      return [
        first ? { text: pending.text, files: pending.files } : message,
        {
          ...light(value),
          conversation: inAddress(),
          span,
          sent: first ? pending.sent : null,
          early: pending && !first,
          choice: parleyChoices.chosen,
        },
      ];
    },
    deciding(value) {
      span = null;
      // The number comes back, so that also a refusal, which changes nothing, is a change to the page.
      return { ...light(value), conversation: inAddress(), span, decisions: chosen, decided: Date.now() };
    },
    acting(value) {
      const { wanted, sent } = action;
      // Another version is shown at the same place, as far as it is as long.
      span = wanted.do === "switch" ? { first: value.first, last: value.last } : null;
      return { ...light(value), conversation: inAddress(), span, action: wanted, acted: sent };
    },
    watching: light,
    acts(element, models) {
      messageBar.start(models);
      element.addEventListener("click", (event) => event.target.closest("button") && act({ do: "bring back" }));
    },
    attached: ({ files }) => parleyAttachments.show(files),
    boxed({ text, files }) {
      const back = returned ?? { text: text ? "" : draft.text, files: [] };
      returned = null;
      return { text: [back.text, text].filter(Boolean).join("\n\n"), files: [...back.files, ...files] };
    },
  };
})();
