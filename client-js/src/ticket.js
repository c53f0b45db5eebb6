/** By storage and key: the connections of this very page that have a session, the first of which keeps it there. */
const claims = new WeakMap();

/**
 * Keeps what lets a page that is loaded anew go on with its session, per tab and under `key`, for who joins with the same
 * `identity`. Of several connections of a page with one key, the oldest that has a session keeps it.
 */
export function createTicketKeeper(storage, key, identity) {
  const byKey = storage && (claims.get(storage) ?? claims.set(storage, new Map()).get(storage));
  const keeper = { kept: undefined };
  const claimants = byKey?.get(key) ?? [];
  byKey?.set(key, claimants);
  // A storage that is full or forbidden throws.
  const attempt = (action) => {
    try {
      return storage && action();
    } catch {
      return undefined;
    }
  };
  const store = ({ kept } = {}) => {
    if (kept) attempt(() => storage.setItem(key, JSON.stringify(kept)));
  };

  return {
    /** What the page before kept, which no other connection of this page can have from now on. */
    read() {
      const { socketId, resume, joined } = attempt(() => JSON.parse(storage.getItem(key))) ?? {};
      const isOurs = typeof resume === "string" && joined === identity;
      if (!isOurs || (claimants[0] ?? keeper) !== keeper) return undefined;
      claimants[0] = keeper;
      return { socketId, resume, last: null };
    },

    write({ socketId, resume }) {
      keeper.kept = { socketId, resume, joined: identity };
      if (!claimants.includes(keeper)) claimants.push(keeper);
      store(claimants[0]);
    },

    /** Lets another connection keep its session, and forgets this one unless the page may come back to it. */
    release(isOver) {
      const place = claimants.indexOf(keeper);
      if (place >= 0) claimants.splice(place, 1);
      if (place !== 0) return;
      if (isOver) attempt(() => storage.removeItem(key));
      store(claimants[0]);
    },
  };
}
