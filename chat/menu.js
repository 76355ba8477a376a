// A menu that hangs at a button: what can be done there, by pointer and by keyboard. Whatever it says is set as text.

const parleyMenu = (() => {
  const GAP = 4; // Pixels to its button,
  const EDGE = 8; // and to the window's edge.

  function make(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // `items` are what is offered: the `label` of each, what it does as `act`, and whether it is a `danger`. `title` is
  // shown above them.
  function open(button, label, items, title = null) {
    const shown = items.map(({ label, act, danger }) => {
      const item = make("button", { type: "button", role: "menuitem", tabIndex: -1, textContent: label });
      if (danger) item.className = "danger";
      item.onclick = () => {
        menu.hidePopover();
        button.focus();
        act();
      };
      return item;
    });
    const heading = title ? [make("p", { textContent: title, ariaHidden: "true" })] : [];
    const menu = make("div", { className: "menu", role: "menu", popover: "auto", ariaLabel: label }, ...heading, ...shown);
    menu.addEventListener("toggle", ({ newState }) => {
      button.ariaExpanded = String(newState === "open");
      if (newState === "closed") menu.remove();
    });
    menu.addEventListener("keydown", (event) => onKey(event, shown, button));
    document.querySelector("main.contain").append(menu); // What is on a page belongs to one of its landmarks.
    menu.showPopover();
    place(menu, button);
    shown[0].focus();
  }

  function place(menu, button) {
    const { left, bottom, top } = button.getBoundingClientRect();
    const [width, height] = [menu.offsetWidth, menu.offsetHeight];
    const above = bottom + GAP + height + EDGE > innerHeight;
    menu.style.left = `${Math.max(EDGE, Math.min(left, innerWidth - width - EDGE))}px`;
    menu.style.top = `${above ? Math.max(EDGE, top - height - GAP) : bottom + GAP}px`;
  }

  function onKey(event, items, button) {
    const at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) items.at(to % items.length).focus();
    else if (event.key === "Tab") event.currentTarget.hidePopover();
    else if (event.key === "Escape") button.focus();
    if (to !== undefined) event.preventDefault();
  }

  return { open };
})();
