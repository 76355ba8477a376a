// The form of what a person chooses for a conversation: what it holds goes to the server at each change, which stores
// it, and answers with the form for it. Before there is a conversation, the page keeps it for the first message.

const parleyChoices = (() => {
  let chosen = null; // What was chosen for a conversation that does not exist yet.

  function read(form) {
    const fields = new FormData(form);
    const off = [...form.querySelectorAll("input[name=tool]:not(:checked)")].map((box) => box.value);
    const [temperature, thinking] = [fields.get("temperature"), fields.get("thinking")];
    return {
      model: fields.get("model"),
      instructions: fields.get("instructions"),
      temperature: temperature ? Number(temperature) : null,
      thinking: thinking === "off" ? false : thinking || null,
      tools_off: off,
    };
  }

  return {
    get chosen() {
      return chosen;
    },
    forget: () => (chosen = null),
    start(element, props, trigger) {
      let open = false;
      const unfold = (wanted = open) => {
        open = wanted;
        const details = element.querySelector("details");
        if (details && details.open !== open) details.open = open;
      };
      // The answer to a change is a new form, folded: it is to be as the one before.
      const changes = { childList: true, subtree: true, attributeFilter: ["open"] };
      new MutationObserver(() => unfold()).observe(element, changes);
      element.addEventListener("change", (event) => {
        const form = event.target.closest("form");
        if (!form?.reportValidity()) return;
        chosen = read(form);
        props.value = { ...props.value, chosen };
        trigger("input");
      });
      element.addEventListener("submit", (event) => event.preventDefault());
      document.addEventListener("click", (event) => {
        if (event.target.closest("#choice summary")) {
          event.preventDefault();
          unfold(!open);
        } else if (event.target.isConnected && !event.target.closest("#choice")) unfold(false);
      });
      document.addEventListener("keydown", (event) => {
        if (event.key === "Escape") unfold(false);
      });
    },
  };
})();
