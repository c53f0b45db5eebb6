// Runs in each room before its game: what the game has as `ctx`, and what the server calls.

(host, { History }) => {
  const { freeze, getPrototypeOf, keys } = Object;
  const { isView } = ArrayBuffer;

  const checkPlayer = (player) => {
    if (!Number.isInteger(player) || player < 0) throw new TypeError(`${String(player)} is no player`);
    return player;
  };

  // As the host takes it: everybody, everybody but one, or one.
  const recipients = (target) => {
    if (target === "all") return [0, 0];
    if (typeof target === "number") return [2, checkPlayer(target)];
    if (target && typeof target === "object" && "except" in target) return [1, checkPlayer(target.except)];
    throw new TypeError('the target of an event is "all", the number of a player, or { except: player }');
  };

  const nobody = freeze({ rttMs: 0, jitterMs: 0, lossDown: 0, lossUp: 0 });
  let shownVersion;
  let shownPlayers = [];
  const players = () => {
    const version = host.playersVersion();
    if (version !== shownVersion) {
      const shown = host.players().map(([id, name, connected, rttMs, jitterMs, lossDown, lossUp]) =>
        freeze({ id, name, connected, link: freeze({ rttMs, jitterMs, lossDown, lossUp }) }),
      );
      shownVersion = version;
      shownPlayers = freeze(shown);
    }
    return shownPlayers;
  };

  const ctx = freeze({
    get tick() {
      return host.tick();
    },
    get tickMs() {
      return host.tickMs();
    },
    get players() {
      return players();
    },
    player: (id) => players().find((player) => player.id === id),
    link: (id) => players().find((player) => player.id === id)?.link ?? nobody,
    consumed: (player) => host.consumed(checkPlayer(player)),
    random: () => host.random(),
    // From `low` to `high`, both included.
    randomInt: (low, high) => {
      const isInt = (value) => value === (value | 0);
      if (!isInt(low) || !isInt(high) || low > high) throw new RangeError("randomInt takes two integers of 32 bits");
      return host.randomInt(low, high);
    },
    state: (value) => host.state(value),
    stateTo: (player, value) => host.stateTo(checkPlayer(player), value),
    stateForEach: (state) => {
      const states = players().map(({ id }) => [id, state(id)]);
      host.stateForEach(states);
    },
    event: (target, value, options) => {
      const [kind, player] = recipients(target);
      host.event(kind, player, value, Boolean(options?.reliable));
    },
    kick: (player, sentence) => host.kick(checkPlayer(player), `${sentence ?? ""}`),
    close: (sentence) => host.close(`${sentence ?? ""}`),
    rename: (player, name) => host.rename(checkPlayer(player), `${name}`),
    setLocked: (locked) => host.setLocked(Boolean(locked)),
    setListed: (listed) => host.setListed(Boolean(listed)),
    setTitle: (title) => host.setTitle(title == null ? "" : `${title}`),
    fanOutInputs: () => host.fanOutInputs(),
    refuse: (sentence) => {
      host.refuse(`${sentence}`);
      throw new Error(`refused: ${sentence}`);
    },
    log: (...values) => host.log(values.map(shown).join(" ")),
    history: (ticks) => new History(ticks),
  });

  const shown = (value) => {
    if (typeof value === "string") return value;
    if (value instanceof Error) return `${value}\n${value.stack}`;
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return String(value);
    }
  };

  const console = {};
  for (const level of ["debug", "error", "info", "log", "warn"]) console[level] = ctx.log;
  globalThis.console = freeze(console);

  // Why a value is more than plain data, or nothing. Such a value would come back as another.
  const notPlain = (value, place, seen) => {
    if (value === null || typeof value !== "object") {
      const isData = !["function", "symbol", "bigint"].includes(typeof value);
      return isData ? undefined : `${place} is a ${typeof value}`;
    }
    if (seen.has(value)) return `${place} is an object that is also elsewhere in it`;
    seen.add(value);
    if (Array.isArray(value)) {
      for (let at = 0; at < value.length; at += 1) {
        const why = notPlain(value[at], `${place}[${at}]`, seen);
        if (why) return why;
      }
      return undefined;
    }
    if (isView(value)) return value instanceof Uint8Array ? undefined : `${place} is a typed array`;
    const prototype = getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) {
      return `${place} is a ${prototype.constructor?.name || "class"}`;
    }
    for (const key of keys(value)) {
      const why = notPlain(value[key], `${place}.${key}`, seen);
      if (why) return why;
    }
    return undefined;
  };

  const noPromise = (value, name) => {
    if (value instanceof Promise) throw new TypeError(`${name} must not be async: a game has no time but its ticks`);
    return value;
  };

  return (script) => {
    let game;
    const call = (name, ...values) => noPromise(script[name]?.(game, ctx, ...values), name);
    return {
      create: (room) => {
        game = noPromise(script.create?.(freeze(room)), "create");
      },
      join: (player, join) => call("join", player, join),
      leave: (player, reason) => call("leave", player, reason),
      drop: (player) => call("drop", player),
      resume: (player, resumed) => call("resume", player, resumed),
      external: (bytes) => call("external", bytes),
      drain: (ms) => call("drain", ms),
      tick: (number, missed, batch) => call("tick", { number, missed }, batch),
      // Whether the game goes on after an error.
      onError: (error, callback) => (script.onError ? call("onError", error, callback) === true : false),
      save: () => {
        if (script.save) return noPromise(script.save(game), "save");
        const why = notPlain(game, "game", new Set());
        if (why) {
          host.unsaved(why);
          return undefined;
        }
        return game ?? null;
      },
      load: (saved, room) => {
        game = script.load ? noPromise(script.load(saved, freeze(room)), "load") : saved;
      },
    };
  };
}
