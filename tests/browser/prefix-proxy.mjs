// A reverse proxy that serves a server below a path, as nginx does with `location /game/ { proxy_pass http://server/; }`.

import { once } from "node:events";
import http from "node:http";
import { connect } from "node:net";

const HOST = "127.0.0.1";

/**
 * Passes what is below `prefix` on to the server at `target`, without the prefix.
 *
 * @param change gives the header fields that the server gets, from those of the browser, by names in lower case
 */
export async function startPrefixProxy(target, { prefix = "/game/", change = (fields) => fields } = {}) {
  const { port } = new URL(target);
  const open = new Set();
  const below = (url) => (url.startsWith(prefix) ? `/${url.slice(prefix.length)}` : undefined);

  const proxy = http.createServer((request, response) => {
    const path = below(request.url);
    if (path === undefined) return response.writeHead(404).end("not below the prefix");
    pass(request, path, response);
  });
  function pass(request, path, response) {
    const asked = http.request({ host: HOST, port, path, method: request.method, headers: change(request.headers) }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    asked.on("error", () => response.destroy());
    request.pipe(asked);
  }

  proxy.on("upgrade", (request, front, head) => {
    front.on("error", () => {});
    const path = below(request.url), fields = change(request.headers);
    if (path === undefined) return front.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    if (!fields.upgrade) {
      const response = new http.ServerResponse(request);
      response.assignSocket(front);
      response.on("finish", () => front.destroySoon());
      return pass(request, path, response);
    }
    const back = connect(port, HOST, () => {
      const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
      back.write(`${request.method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
      back.write(head);
      front.pipe(back).pipe(front);
    });
    for (const socket of [front, back]) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        front.destroy();
        back.destroy();
      });
    }
  });
  proxy.listen(0, HOST);
  await once(proxy, "listening");

  return {
    url: `http://${HOST}:${proxy.address().port}${prefix}`,
    async close() {
      const closed = once(proxy, "close");
      proxy.close();
      proxy.closeAllConnections();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
