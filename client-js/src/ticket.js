/** By storage: the keys whose session is in this very page, which must not take it from itself. */
const claims = new WeakMap();

/**
 * Keeps what lets a page that is loaded anew go on with its session, per tab and under `key`. Keeps nothing where there
 * is no storage, or another connection of this page has that key.
 */
export function createTicketKeeper(storage, key) {
  const claimed = storage && (claims.get(storage) ?? claims.set(storage, new Set()).get(storage));
  const isOurs = claimed && !claimed.has(key);
  if (isOurs) claimed.add(key);
  // A storage that is full or forbidden throws.
  const attempt = (action) => {
    try {
      return isOurs ? action() : undefined;
    } catch {
      return undefined;
    }
  };

  return {
    /** What the page before kept. */
    read() {
      const { socketId, resume } = attempt(() => JSON.parse(storage.getItem(key))) ?? {};
      return typeof resume === "string" ? { socketId, resume, last: null } : undefined;
    },

    write({ socketId, resume }) {
      attempt(() => storage.setItem(key, JSON.stringify({ socketId, resume })));
    },

    /** Lets others have the key, and forgets the session unless the page may come back to it. */
    release(isOver) {
      if (isOver) attempt(() => storage.removeItem(key));
      if (isOurs) claimed.delete(key);
    },
  };
}
