// Prints what a browser has to fetch, and fails when it grows past what was promised.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const LIMIT_KB = 400;
const dist = new URL('../dist/', import.meta.url);
const files = ['index.html', ...readdirSync(new URL('assets/', dist)).map((name) => `assets/${name}`)].sort();
const sizes = files.map((name) => {
  const bytes = readFileSync(new URL(name, dist));
  return { name, plain: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
});
const kb = (bytes) => (bytes / 1000).toFixed(1).padStart(8);
for (const { name, plain, gzip } of sizes) console.log(`${kb(plain)} kB ${kb(gzip)} kB gzip  ${name}`);
const map = (file) => file.name.startsWith('assets/world-');
const sum = (list) => list.reduce((total, file) => total + file.gzip, 0);
const app = sum(sizes.filter((file) => !map(file)));
console.log(`app ${(app / 1000).toFixed(1)} kB gzip of ${LIMIT_KB}, map data ${(sum(sizes.filter(map)) / 1000).toFixed(1)} kB gzip`);
if (app > LIMIT_KB * 1000) {
  console.error(`the app is larger than ${LIMIT_KB} kB gzip: take something out, or raise LIMIT_KB in build/size.mjs and say why`);
  process.exit(1);
}
