// What is attached to a message: files that can't be sent are refused before they are uploaded, with a sentence; the
// others go on, whether they are chosen, dropped or pasted.

const parleyAttachments = (() => {
  // What can be attached, to the model that is chosen: `kinds`, for a sentence, `endings` and types as a chooser takes
  // them, whether `sound` is among them, and the `largest` file's bytes.
  let limits = { endings: [] };
  let warn; // Says a sentence.

  const nameOf = (file) => file.orig_name || file.path.split("/").at(-1);
  const picker = () => document.querySelector("#message input[type=file]");

  function refusal(file) {
    const [name, type] = [file.name.toLowerCase(), file.type];
    if (!limits.endings.some((kind) => (kind.startsWith(".") ? name.endsWith(kind) : type.startsWith(kind.replace("*", "")))))
      return `“${file.name}” is of a kind that can't be sent here. Attach ${limits.kinds}.`;
    if (file.size <= limits.largest) return "";
    return `“${file.name}” has ${megabytes(file.size)}; a file may have at most ${megabytes(limits.largest)}.`;
  }

  const megabytes = (size) => `${Number((size / 1e6).toPrecision(3))} MB`;

  function attach(files) {
    const chosen = new DataTransfer();
    for (const file of files) chosen.items.add(file);
    picker().files = chosen.files;
    picker().dispatchEvent(new Event("change"));
  }

  // A file that was sent before, as the server names it.
  async function fetched({ name, text, url, type }) {
    if (text != null) return new File([text], name, { type: "text/plain" });
    const answer = await fetch(new URL(`${window.gradio_config?.root ?? ""}/${url}`, location.href));
    if (!answer.ok) throw new Error(answer.statusText);
    return new File([await answer.blob()], name, { type });
  }

  async function again(files) {
    const found = await Promise.allSettled(files.map(fetched));
    const got = found.map(({ value }) => value).filter(Boolean);
    if (got.length && picker()) attach(got);
    if (got.length < files.length || !picker())
      warn("Not all files could be attached again. What was taken back is kept: bring it back, or attach them yourself.");
  }

  function sift(event, files, always) {
    const refused = files.map(refusal).filter(Boolean);
    if (!picker() || !(refused.length || always)) return;
    event.preventDefault();
    event.stopPropagation();
    if (refused.length) warn(refused.join(" "));
    const fitting = files.filter((file) => !refusal(file));
    if (fitting.length) attach(fitting);
  }

  // Gradio says what is attached, but shows a name of no file.
  function show(files) {
    requestAnimationFrame(() => {
      document.querySelectorAll("#message .thumbnail-wrapper").forEach((shown, index) => {
        if (!files[index]) return;
        shown.dataset.name = shown.title = shown.ariaLabel = nameOf(files[index]);
        shown.role = "group"; // Gradio's list items are in no list.
        shown.querySelector(".delete-button").ariaLabel = `Remove ${shown.title}`;
      });
    });
  }

  // Gradio's box is made once, for all models.
  function limit(itsLimits) {
    limits = itsLimits;
    document.body.toggleAttribute("data-no-sound", !limits.sound);
  }

  const inBox = (event) => picker() && event.target.closest?.("#message");
  const capture = { capture: true };
  const onFiles = (kind, act) => document.addEventListener(kind, (event) => inBox(event) && act(event), capture);
  onFiles("click", () => (picker().accept = limits.endings.join(", ")));
  onFiles("change", (event) => event.target === picker() && sift(event, [...event.target.files]));
  onFiles("drop", (event) => {
    sift(event, [...event.dataTransfer.files]);
    // Gradio's own end of the dragging, when it doesn't see the drop.
    const outside = new DragEvent("dragleave", { clientX: -1, clientY: -1 });
    document.querySelector("#message .full-container").dispatchEvent(outside);
  });
  // Gradio takes pictures only. What has words too is pasted as these.
  onFiles("paste", (event) => {
    const { clipboardData: pasted } = event;
    if (pasted.files.length && !pasted.getData("text")) sift(event, [...pasted.files], true);
  });

  return {
    start: (itsWarning) => (warn = itsWarning),
    follow(props, watch) {
      limit(props.value.attachable);
      watch("value", () => limit(props.value.attachable));
    },
    nameOf,
    show,
    again,
  };
})();
