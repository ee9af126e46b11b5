// Writes map/third-party.txt, which the build takes along: the licence of every package whose code or data is in the built files.
//
// MapLibre's built file contains its own dependencies, so all that package-lock.json lists without
// "dev" is named; what only builds or tests is not.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';

const root = new URL('../', import.meta.url);
const lock = JSON.parse(readFileSync(new URL('package-lock.json', root), 'utf8'));
/** Map data comes from it, so it counts although nothing of it runs. */
const DATA = ['node_modules/world-atlas'];
/** Packages without the field: this one is a fork of jsonlint, which is MIT. */
const UNNAMED = { '@mapbox/jsonlint-lines-primitives': 'MIT' };

const bundled = Object.entries(lock.packages)
  .filter(([path, entry]) => path && (!entry.dev || DATA.includes(path)))
  .filter(([path]) => !path.includes('/@types/'))
  .sort(([a], [b]) => (a < b ? -1 : 1));

const parts = [
  'Milepost is MIT OR Apache-2.0. Its web app contains the following.\n',
  'Map data: Natural Earth (naturalearthdata.com), public domain.\n',
];
for (const [path, entry] of bundled) {
  const dir = new URL(`${path}/`, root);
  // Optional packages for other machines are listed in the lock file and not there.
  if (!existsSync(dir)) continue;
  const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const files = readdirSync(dir).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort();
  const texts = files.map((file) => readFileSync(new URL(file, dir), 'utf8').replace(/\r\n/g, '\n').trim());
  const licence = entry.license ?? UNNAMED[name];
  if (!licence) throw new Error(`${name} names no licence: look at it, then take it out or name it here`);
  parts.push(`${'='.repeat(80)}\n${name} ${entry.version}, ${licence}\n\n${texts.join('\n\n') || 'No licence file of its own.'}\n`);
}
writeFileSync(new URL('map/third-party.txt', root), parts.join('\n'));
