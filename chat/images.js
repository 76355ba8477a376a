// Images of other hosts, which the page's policy keeps from being loaded: their description, as a link to click.

(() => {
  // Only attributes are changed: Gradio replaces what is in a message by itself.
  function link(image) {
    const address = image.getAttribute("src") ?? "";
    if (!/^https?:/i.test(address) || new URL(address).origin === location.origin) return;
    image.removeAttribute("src");
    image.removeAttribute("srcset");
    image.dataset.address = address;
    image.title = address;
    image.alt = `${image.alt || "Image"} (${new URL(address).hostname})`;
    image.setAttribute("role", "link");
    image.tabIndex = 0;
  }

  function follow(event) {
    const address = event.target.dataset?.address;
    if (!address || (event.type === "keydown" && event.key !== "Enter")) return;
    event.preventDefault();
    event.stopPropagation();
    open(address, "_blank", "noopener,noreferrer");
  }

  // What is kept from being loaded fails at once, without a request.
  document.addEventListener("error", ({ target }) => target instanceof HTMLImageElement && link(target), true);
  document.addEventListener("click", follow, true);
  document.addEventListener("keydown", follow, true);
})();
