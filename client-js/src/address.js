/** What the server has at `path`, whichever of its pages `url` is; the page's own by default. @throws where it is none */
export function addressOf(path, url, scheme) {
  const here = globalThis.location?.href;
  const address = new URL(url ?? here, here);
  address.pathname = address.pathname.replace(/(\/r)?\/[^/]*$/, path);
  address.protocol = address.protocol.replace(/http|ws/, scheme);
  address.hash = "";
  return address.href;
}
