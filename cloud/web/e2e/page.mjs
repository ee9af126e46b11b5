// A headless browser on the app of a running cloud, and what every scenario holds true: no request
// leaves the machine, nothing fails aloud, the page's policy is never broken.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// The packages may lie elsewhere than these files: ./dev installs them below .dev/.
const modules = process.env.MILEPOST_WEB_DIR ?? new URL('..', import.meta.url).pathname;
const require = createRequire(`${modules}/package.json`);
const { chromium } = require('playwright-core');
export const axe = require.resolve('axe-core/axe.min.js');

const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  '--enable-precise-memory-info',
  // WebGL without a graphics card.
  '--use-gl=angle',
  '--use-angle=swiftshader',
  '--enable-unsafe-swiftshader',
  '--ignore-gpu-blocklist',
  // Were a name looked up, it would not be found.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

export const base = process.env.MILEPOST_URL;
/** How long anything may take on a loaded machine, milliseconds. */
export const PATIENCE = 60_000;

export class Browser {
  faults = [];

  static async open() {
    const made = new Browser();
    made.browser = await chromium.launch({ executablePath: process.env.MILEPOST_CHROMIUM, args: FLAGS });
    return made;
  }

  /** A fresh visitor. `expected`: what the console may complain of. `early`: runs in the page, before the app does. */
  async page({ width = 1280, height = 760, dark = false, expected = null, hash = '', early = null } = {}) {
    const context = await this.browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? 'dark' : 'light',
      timezoneId: 'UTC',
      reducedMotion: 'no-preference',
    });
    if (early) await context.addInitScript(early.run, early.given);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on('request', (request) => {
      const url = request.url();
      if (!url.startsWith(`${base}/`) && !/^(blob|data):/.test(url)) this.faults.push(`request leaves the machine: ${url}`);
    });
    page.on('console', (message) => {
      const text = message.text();
      if (message.type() === 'error' && !(expected && expected.test(text))) this.faults.push(`console: ${text}`);
    });
    page.on('pageerror', (error) => this.faults.push(`page: ${error.message}`));
    await page.goto(`${base}/${hash}`);
    return page;
  }

  /** A picture of the newest page, where somebody wants one. */
  async lastLook(name) {
    const page = this.browser.contexts().at(-1)?.pages().at(-1);
    if (page && process.env.MILEPOST_PICTURES) await page.screenshot({ path: `${process.env.MILEPOST_PICTURES}/${name}.png` });
  }

  async close() {
    await this.browser.close();
  }
}

const input = createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();

/** Tells the test where we are. */
export function say(step, more = {}) {
  process.stdout.write(`${JSON.stringify({ step, ...more })}\n`);
}

/** Tells the test, and waits until it has done its part. Gives what it says. */
export async function turn(step, more = {}) {
  say(step, more);
  const { done, value } = await lines.next();
  // Nobody waits for us any more.
  if (done) process.exit(1);
  return value;
}

export function finished() {
  input.close();
}

export function ensure(holds, what) {
  if (!holds) throw new Error(what);
}

/** Asks again until the answer is truthy. */
export async function until(what, ask, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  let answer;
  for (;;) {
    answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${patience} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The map has drawn all it has. */
export async function drawn(page) {
  await page.waitForFunction(() => {
    const map = window.milepost?.map?.base?.map;
    return map && map.loaded() && !map.isMoving();
  });
}

/** Colours of what is really on the screen at points of an element, as [r, g, b]. */
export async function colours(page, selector, points) {
  const png = await page.locator(selector).first().screenshot();
  return page.evaluate(
    async ({ bytes, points }) => {
      const image = await createImageBitmap(new Blob([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], { type: 'image/png' }));
      const canvas = new OffscreenCanvas(image.width, image.height);
      const context = canvas.getContext('2d');
      context.drawImage(image, 0, 0);
      return points.map(([x, y]) => Array.from(context.getImageData(Math.round(x), Math.round(y), 1, 1).data.slice(0, 3)));
    },
    { bytes: png.toString('base64'), points },
  );
}

export function near(a, b, off = 40) {
  return a.every((value, i) => Math.abs(value - b[i]) <= off);
}
