// What the browser keeps for the page. One that keeps nothing for a page inside another site's, as on Spaces, refuses
// even to be asked: then it is kept as long as the page is open.

const parleyKept = (name) => {
  let storage;
  try {
    storage = window[name];
  } catch {
    const kept = new Map();
    storage = {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, value),
      removeItem: (key) => kept.delete(key),
      clear: () => kept.clear(),
    };
  }
  return storage;
};

const parleySession = parleyKept("sessionStorage");
const parleyLocal = parleyKept("localStorage");
