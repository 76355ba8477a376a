// Where the conversation is scrolled to: at its end, which is followed, or at a message that is being read, which stays
// where it is while others come in above and below it. Near an end of what is shown, more is asked for.

const parleyScroll = (status, ask) => {
  const STEP = 40; // Messages that are asked for at a time,
  const SHOWN = 120; // and how many may be shown: what an update costs does not grow with what was read.
  const EDGE_PX = 800; // How near an end is, so that what comes next is there before it is needed.
  const END_PX = 50;
  const URGE_MS = 500;
  let box = null;
  let following = true;
  let height = 0; // How far down it was scrolled when last looked at,
  let room = ""; // and how much there was to see, in how much room.
  let urged = 0; // When somebody last did what scrolls up.
  let due = 0; // The frame before which to keep the place.
  let place = null; // The message at the top of what is seen: its position, its number there, and its height on the page.
  let target = null; // The message that was asked for by its address, as long as nobody scrolls.

  const messages = () => [...box.querySelectorAll("[data-testid=user], [data-testid=bot]")];
  const urging = () => Date.now() - urged < URGE_MS;
  const sizes = () => `${box.scrollHeight} ${box.clientHeight}`;
  const top = (element) => element.getBoundingClientRect().top;
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  // Before what has changed is painted, so that nothing is seen to move.
  function keep() {
    cancelAnimationFrame(due);
    due = 0;
    lead();
    const { first, last, counts, target: asked } = status();
    const shown = messages();
    const whole = shown.length === sum(counts);
    if (whole && asked != null && target !== asked) show(shown[asked]);
    else if (following && last == null) box.scrollTop = box.scrollHeight;
    else if (!whole) return;
    else if (place && place.position >= first) {
      const kept = shown[sum(counts.slice(0, place.position - first)) + place.number];
      if (kept) box.scrollTop += top(kept) - place.top;
    }
    extend(look());
  }

  // What is seen, which is what `keep` keeps.
  function look() {
    const { last, counts } = status();
    const shown = messages();
    if (shown.length === sum(counts)) place = placeOf(shown);
    else if (place) place.top -= box.scrollTop - height; // The chatbot and the status are not of one frame.
    height = box.scrollTop;
    room = sizes();
    const below = box.scrollHeight - height - box.clientHeight;
    document.body.dataset.below = last != null || below > 2 * box.clientHeight ? "yes" : "no";
    return below;
  }

  function placeOf(shown) {
    const { first, counts } = status();
    const edge = top(box);
    let number = shown.findIndex((element) => element.getBoundingClientRect().bottom > edge);
    if (number < 0) return null;
    const seen = shown[number];
    let position = first;
    while (number >= counts[position - first]) number -= counts[position++ - first];
    return { position, number, top: top(seen) };
  }

  // Whether the end is followed. While messages come in it moves away by itself, and what gets shorter for a moment moves
  // up by itself: only somebody who goes up leaves it, and who comes down to it is back.
  function lead() {
    const below = box.scrollHeight - box.scrollTop - box.clientHeight;
    const [up, down] = [box.scrollTop < height, box.scrollTop > height];
    if (up && urging()) urged = Date.now(); // It goes on for a while after the hand has left.
    if (status().last != null || (up && below > 1 && (urging() || sizes() === room))) following = false;
    else if (below < END_PX && (down || !urging())) following = true;
  }

  function scrolled() {
    lead();
    if (!due) extend(look()); // Else what has changed comes first.
  }

  // Ask for more where it will be needed: who follows the end needs nothing before it, unless there is room.
  function extend(below) {
    const { first, last, counts } = status();
    const full = counts.length + STEP > SHOWN;
    if (first > 0 && (following ? box.scrollHeight <= box.clientHeight : height < EDGE_PX)) {
      ask({ first: Math.max(0, first - STEP), last: full ? first - STEP + SHOWN - 1 : last });
    } else if (last != null && below < EDGE_PX) {
      ask({ first: full ? last + STEP - SHOWN + 1 : first, last: last + STEP });
    }
  }

  function show(element) {
    following = false;
    target = status().target;
    element.scrollIntoView({ block: "start" });
    box.scrollTop -= 16;
    element.closest(".message-row").classList.add("found");
  }

  return {
    // Another conversation, or a message of one's own: to the end.
    follow() {
      [following, place, target, height] = [true, null, status().target, 0];
      if (box) keep();
    },
    // The message that was asked for may be on the page already: then nothing changes but where it is scrolled to.
    find() {
      if (box) due ||= requestAnimationFrame(keep);
    },
    get following() {
      return following;
    },
    // Gradio makes the box some time after the page's script, and its content with the first message.
    start() {
      box = document.querySelector("#conversation .bubble-wrap");
      if (!box) return requestAnimationFrame(() => this.start());
      // A frame's changes are kept up with once. What gets its size later, such as an image, changes only that.
      const changed = () => (due ||= requestAnimationFrame(keep));
      const resized = new ResizeObserver(keep);
      const observe = () => {
        changed();
        box.querySelectorAll(".message-wrap").forEach((content) => resized.observe(content));
      };
      new MutationObserver(observe).observe(box, { childList: true, subtree: true, characterData: true });
      observe();
      resized.observe(box);
      box.addEventListener("scroll", scrolled, { passive: true });
      box.addEventListener("wheel", ({ deltaY }) => (urged = deltaY < 0 ? Date.now() : 0), { passive: true });
      box.addEventListener("touchmove", () => (urged = Date.now()), { passive: true });
      box.addEventListener("keydown", ({ key }) => ["PageUp", "ArrowUp", "Home", " "].includes(key) && (urged = Date.now()));
    },
  };
};
