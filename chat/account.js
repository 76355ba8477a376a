// Who has signed in, at the end of the sidebar, and the way in and out. Other tabs follow.

const parleyAccount = (() => {
  const root = () => window.gradio_config?.root ?? "";
  const tabs = new BroadcastChannel("parley-account");
  tabs.onmessage = () => location.reload();

  function link(element) {
    const entry = document.createElement("a");
    entry.href = `${root()}/login`;
    // The provider's page can't be shown in a frame, as the chat is on Spaces.
    if (window.top !== window) entry.target = "_blank";
    entry.textContent = "Sign in with Hugging Face";
    element.replaceChildren(entry);
  }

  function form(element, name) {
    const [way, who, out] = ["form", "span", "button"].map((tag) => document.createElement(tag));
    [way.method, way.action] = ["post", `${root()}/logout`];
    who.textContent = who.title = name;
    out.textContent = "Sign out";
    way.append(who, out);
    way.addEventListener("submit", () => {
      parleySession.clear();
      addEventListener("pagehide", () => tabs.postMessage("left")); // The server has answered then.
    });
    element.replaceChildren(way);
  }

  return {
    async start(element) {
      const place = element.querySelector("section");
      const answer = await fetch(`${root()}/parley/account`);
      if (answer.status === 401) location.reload();
      if (!answer.ok) return;
      const { name } = await answer.json();
      if (name) form(place, name);
      else link(place);
    },
  };
})();
