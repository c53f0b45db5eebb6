/** An element with these properties and children. Text becomes text nodes: what comes over the wire is never markup. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** So many digits that they don't take more room than they tell. */
export const short = (value) =>
  value === null ? "–" : value < 0.995 && value > 0 ? value.toFixed(2) : value < 9.95 ? String(+value.toFixed(1)) : String(Math.round(value));

export const size = (bytes) =>
  bytes < 1_000 ? `${Math.round(bytes)}\u00a0B` : bytes < 999_500 ? `${short(bytes / 1_000)}\u00a0kB` : `${short(bytes / 1e6)}\u00a0MB`;
