// Times a reply as its reader sees it, by the page's own clock. Runs before the page's own scripts. It looks only at
// what changed, so that its own cost doesn't grow with the conversation.

window.bench = ((listSelector, replySelector) => {
  // Playwright listens to the console, which makes each entry cost time that it doesn't cost a reader.
  console.log = console.info = console.warn = console.debug = () => {};

  const longTasks = [];
  let goal = null;

  // What a change brought into the list of messages, or nothing.
  function* brought(record) {
    const list = document.querySelector(listSelector);
    if (!list) return;
    const nodes = record.type === "characterData" ? [record.target] : record.addedNodes;
    for (const node of nodes) {
      if (list.contains(node)) yield node;
      else if (node.contains(list)) yield list;
    }
  }

  function prompted(records) {
    return records.some((record) => [...brought(record)].some((node) => node.textContent.includes(goal.prompt)));
  }

  // The reply, if one of the changes was in it or brought it.
  function changedReply(records) {
    const isIt = (element) => element?.textContent.includes(goal.first);
    for (const { target } of records) {
      const element = target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement;
      const inside = element?.closest(replySelector);
      if (isIt(inside)) return inside;
    }
    for (const record of records)
      for (const node of brought(record)) {
        if (node.nodeType !== Node.ELEMENT_NODE || !isIt(node)) continue;
        const replies = [...node.querySelectorAll(replySelector), node.closest(replySelector)];
        const found = replies.findLast(isIt);
        if (found) return found;
      }
    return null;
  }

  function onChanges(records) {
    if (!goal) return;
    const now = performance.now();
    if (goal.promptAt === null && prompted(records)) goal.promptAt = now;
    const text = changedReply(records)?.textContent;
    if (!text || text === goal.text) return;
    goal.text = text;
    // Changes between two frames are seen as one.
    if (!goal.inFrame) {
      goal.updates.push(now);
      goal.inFrame = true;
      requestAnimationFrame(() => (goal.inFrame = false));
    }
    if (goal.lastAt === null && text.includes(goal.last)) {
      goal.lastAt = now;
      if (goal.promptAt !== null) goal.resolve();
    }
  }

  new MutationObserver(onChanges).observe(document, { childList: true, characterData: true, subtree: true });
  new PerformanceObserver((list) => longTasks.push(...list.getEntries())).observe({ type: "longtask", buffered: true });
  addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Enter" && goal && goal.enterAt === null) goal.enterAt = performance.now();
    },
    true,
  );

  // After a reload: when the text that the last page wrote down is in the list.
  const awaited = sessionStorage.getItem("bench-awaited");
  const shown = new Promise((resolve) => {
    if (!awaited) return;
    const observer = new MutationObserver((records) => {
      for (const record of records)
        for (const node of brought(record))
          if (node.textContent.includes(awaited)) {
            observer.disconnect();
            resolve(performance.now());
          }
    });
    observer.observe(document, { childList: true, characterData: true, subtree: true });
  });

  const within = (milliseconds, promise, what) =>
    Promise.race([
      promise,
      new Promise((_, reject) => setTimeout(() => reject(new Error(`${what} took too long`)), milliseconds)),
    ]);

  return {
    // Watch for a reply: `prompt`, `first` and `last` are words that only its prompt, its begin and its end contain.
    expect(words) {
      goal = { ...words, text: "", enterAt: null, promptAt: null, lastAt: null, updates: [], inFrame: false };
      goal.done = new Promise((resolve) => (goal.resolve = resolve));
    },
    // Its times in ms after Enter, once its last word is seen.
    async reply(limit) {
      await within(limit, goal.done, "The reply");
      const { enterAt, promptAt, lastAt, updates } = goal;
      return { prompt: promptAt - enterAt, last: lastAt - enterAt, updates: updates.map((time) => time - enterAt) };
    },
    // The longest task of the main thread since Enter, in ms; below 50 the browser doesn't tell.
    longestTask: () => Math.max(0, ...longTasks.filter((task) => task.startTime >= goal.enterAt).map((task) => task.duration)),
    await: (text) => sessionStorage.setItem("bench-awaited", text),
    shown: (limit) => within(limit, shown, "The page"),
  };
})(LIST, REPLY);
