/* Build the button: `node ingest/button/build.js` writes ingest/http/static/button.js, or the file that is named. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const RAW_MAX = 8000, GZIP_MAX = 4300;
const [outfile = here("../http/static/button.js")] = process.argv.slice(2);

await build({
  entryPoints: [here("button.js")],
  outfile,
  bundle: true,
  minify: true,
  mangleProps: /^(bearer|pair|wrong|missing|isOut|list|show|number|address|subject)$/,
  format: "iife", // runs as a classic script, as a module and by import()
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
});
const built = readFileSync(outfile), gzip = gzipSync(built, { level: 9 }).length;
console.log(`button.js: ${built.length} bytes, gzip ${gzip}, brotli ${brotliCompressSync(built).length}`);
if (built.length > RAW_MAX || gzip > GZIP_MAX) {
  console.error(`too large: at most ${RAW_MAX} bytes, and ${GZIP_MAX} with gzip`);
  process.exitCode = 1;
}
