import { defineConfig } from "vite";

// `npm run dev` serves the page of a room itself, and takes the room from a server on its default port.
const room = {
  target: "http://127.0.0.1:8080",
  ws: true,
  bypass: ({ headers }: { headers: { upgrade?: string | undefined } }) => (headers.upgrade ? undefined : "/index.html"),
};

export default defineConfig({
  server: { proxy: { "/r/": room } },
  build: { target: "es2023", chunkSizeWarningLimit: 2_000 },
});
