// What a person does with the app, one scenario for each promise. The test (tests/tests/browser.rs)
// runs the real stack around them and answers where a scenario takes turns with it.
import { axe, base, colours, drawn, ensure, near, say, turn, until } from './page.mjs';

const MOVING = [0x0f, 0x7a, 0x55];
const TRACK = [0x0b, 0x5c, 0xad];

/** What the page knows of each vehicle, and where that is on the screen. */
function vehicles(page) {
  return page.evaluate(() => {
    const { fleet, map } = window.milepost;
    return [...fleet.vehicles.values()].map(({ id, row }) => {
      const { x, y } = map.base.map.project([row.longitude, row.latitude]);
      return { id, imei: row.imei, latitude: row.latitude, longitude: row.longitude, speed: row.speed_kmh, x, y };
    });
  });
}

/** Cars move on the map, and a click says what they are. */
export async function moves(browser) {
  const count = Number(await turn('ready'));
  const page = await browser.page({ hash: '#/map&token=made-up' });
  await until(`${count} vehicles`, async () => (await vehicles(page).catch(() => [])).length === count);
  ensure(!(await page.evaluate(() => location.href)).includes('token'), 'the token is still in the address');
  await drawn(page);
  const first = await vehicles(page);
  const driver = await until('somebody drives', async () => (await vehicles(page)).find(({ speed }) => speed > 10));
  // Close by, where a second's way is some pixels.
  await page.evaluate((id) => (location.hash = `#/map/${id}`), driver.id);
  await page.locator('#chosen-title').waitFor();
  await page.evaluate(() => window.milepost.map.base.map.jumpTo({ zoom: 15 }));
  await page.getByLabel('Follow').check();
  const start = (await vehicles(page)).find(({ id }) => id === driver.id);
  await until('it is somewhere else', async () => {
    const now = (await vehicles(page)).find(({ id }) => id === driver.id);
    return Math.hypot(now.latitude - start.latitude, now.longitude - start.longitude) > 1e-4;
  });
  // Not only known, but drawn: its colour is where the map says it is.
  await until('its mark is on the screen', async () => {
    const now = (await vehicles(page)).find(({ id }) => id === driver.id);
    const around = [];
    for (let dx = -24; dx <= 24; dx += 3) for (let dy = -24; dy <= 24; dy += 3) around.push([now.x + dx, now.y + dy]);
    const box = await page.locator('.map-box .map').boundingBox();
    const inside = around.filter(([x, y]) => x >= 0 && y >= 0 && x < box.width && y < box.height);
    return (await colours(page, '.map-box .map', inside)).some((colour) => near(colour, MOVING));
  });
  const moved = (await vehicles(page)).filter(({ id, latitude, longitude }) => {
    const before = first.find((vehicle) => vehicle.id === id);
    return before.latitude !== latitude || before.longitude !== longitude;
  });
  await page.locator('.values tbody tr').first().waitFor();
  const values = await page.locator('.values tbody th').allTextContents();
  ensure(values.some((name) => /voltage/.test(name)), `values have names: ${values}`);
  // The keyboard alone comes as far: search, then the list.
  await page.getByRole('searchbox').fill(driver.imei);
  await until('the list has one', async () => (await page.locator('.vehicles li').count()) === 1);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  ensure((await page.locator(':focus').count()) === 1, 'the focus is somewhere');
  say('done', { vehicles: first.length, moved: moved.length });
}

/** Nobody comes in without a token, and who may only look is not offered to act. */
export async function door(browser) {
  const device = await turn('ready');
  const expected = /401/;
  const page = await browser.page({ expected });
  await page.getByText('to those who have a token').waitFor();
  await page.getByLabel('Token').fill('nobody-has-this-one');
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.getByText('to those who have a token').waitFor();
  await page.getByLabel('Token').fill('made-up-token-to-look');
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.locator('.who', { hasText: 'looker' }).waitFor();
  await page.reload();
  await page.locator('.who', { hasText: 'looker' }).waitFor();
  await page.evaluate((id) => (location.hash = `#/device/${id}`), device);
  await page.getByText('Sending one needs a token with the role operator').waitFor();
  ensure((await page.getByRole('button', { name: 'Send' }).count()) === 0, 'who may only look is offered to send');
  const linked = await browser.page({ hash: '#/pipeline&token=made-up-token-to-look' });
  await linked.locator('.stages').waitFor();
  ensure(new URL(linked.url()).hash === '#/pipeline', `the token is gone from ${linked.url()}`);
  // Whoever goes on in the moment the views appear gets there: before anything is drawn, before the map is made.
  const hasty = await browser.page({
    hash: '#/map&token=made-up-token-to-look',
    early: {
      run: (device) => {
        new MutationObserver((_, observer) => {
          if (!document.querySelector('.who')) return;
          observer.disconnect();
          location.hash = `#/device/${device}`;
        }).observe(document, { childList: true, subtree: true });
      },
      given: device,
    },
  });
  await hasty.locator('#commands-title').waitFor();
  say('done');
}

/** A cloud that dies, one that hangs, and one that is back. */
export async function stalls(browser) {
  const page = await browser.page({ expected: /Failed to load resource|ERR_|fetch/ });
  await page.getByText('● Live').waitFor();
  const seen = {};
  for (const how of ['killed', 'paused']) {
    await turn(how);
    const begun = Date.now();
    await page.locator('#silence', { hasText: 'No word from the cloud for' }).waitFor();
    seen[how] = Date.now() - begun;
    ensure(/Last word \d\d:\d\d:\d\d/.test(await page.locator('#silence').innerText()), 'it says when the last word was');
    await page.getByText('✕ Stalled').waitFor();
    await turn(`${how} back`);
    await page.locator('.status', { hasText: /Live|Last position/ }).waitFor();
    ensure(await page.locator('#silence').evaluate((node) => node.className === 'hidden'), 'the warning goes');
  }
  for (const [how, ms] of Object.entries(seen)) ensure(ms < 8000, `${how}: told after ${ms} ms`);
  say('done', { told_after_ms: seen });
}

/** A route that is known is the route that is drawn. */
export async function track(browser) {
  const { device, route } = JSON.parse(await turn('ready'));
  const page = await browser.page({ hash: `#/device/${device}`, height: 1300 });
  await page.locator('.sum', { hasText: `${route.length} records` }).waitFor();
  await drawn(page);
  // The view goes to where the track is.
  const points = await until('the track fills the view', async () => {
    const at = await page.evaluate(
      (route) => route.map(([longitude, latitude]) => Object.values(window.milepost.map.base.map.project([longitude, latitude]))),
      route,
    );
    return Math.hypot(at[0][0] - at.at(-1)[0], at[0][1] - at.at(-1)[1]) > 200 && at;
  });
  const box = await page.locator('.track-box .map').boundingBox();
  for (const [x, y] of points) ensure(x > 0 && y > 0 && x < box.width && y < box.height, `all of the route is in view: ${x}, ${y}`);
  // In the middle between two reports too: it is a line.
  const between = points.slice(1).map(([x, y], i) => [(x + points[i][0]) / 2, (y + points[i][1]) / 2]);
  let seen = [];
  await until(
    'the route is drawn',
    async () => {
      seen = await colours(page, '.track-box .map', between);
      return seen.every((colour) => near(colour, TRACK, 60));
    },
    20_000,
  ).catch((error) => {
    throw new Error(`${error.message}: at ${JSON.stringify(between)} are ${JSON.stringify(seen)}`);
  });
  const off = between.map(([x, y]) => [box.width - x, y]).filter(([x, y]) => between.every(([a, b]) => Math.hypot(a - x, b - y) > 40));
  ensure(off.length > 0, 'a route whose mirror is elsewhere');
  ensure(!(await colours(page, '.track-box .map', off)).some((colour) => near(colour, TRACK, 60)), 'and nothing else');
  await page.locator('.plot', { hasText: 'Speed' }).waitFor();
  await page.getByText(`Table of ${route.length} points`).click();
  ensure((await page.locator('details.card tbody tr').count()) === route.length, 'the table has them');
  const files = {};
  for (const kind of ['CSV', 'GPX']) {
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `Download ${kind}` }).click()]);
    const chunks = [];
    for await (const chunk of await file.createReadStream()) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('utf8');
    files[kind] = kind === 'CSV' ? text.trim().split('\n').length - 1 : text.match(/<trkpt/g).length;
  }
  ensure(files.CSV === route.length && files.GPX === route.length, `files have all points: ${JSON.stringify(files)}`);
  await page.getByRole('button', { name: '1 hour' }).click();
  say('done', { points: route.length });
}

/** A command goes out and its reply comes back. */
export async function command(browser) {
  const device = await turn('ready');
  const page = await browser.page({ hash: `#/device/${device}` });
  await page.getByLabel('Text, as the tracker reads it').fill('getinfo');
  await page.getByRole('button', { name: 'Send' }).click();
  const line = page.locator('.commands li').first();
  await line.waitFor();
  await page.locator('.commands li[data-state=acked]').waitFor();
  ensure((await line.innerText()).includes('did getinfo'), await line.innerText());
  say('done');
}

/** A poisoned frame is shown byte by byte, and read again once it can be. */
export async function letter(browser) {
  await turn('ready');
  const page = await browser.page({ hash: '#/dead-letters' });
  await page.locator('tbody tr').first().waitFor();
  await page.locator('tbody th a').first().click();
  await page.locator('#letter-title').waitFor();
  ensure((await page.locator('.byte').count()) === 10, 'every byte is shown');
  ensure((await page.locator('.byte').first().innerText()).includes('77'), 'as hexadecimal');
  ensure((await page.locator('.byte.stop').count()) === 1, 'and where reading stopped');
  await page.getByText('would fail').waitFor();
  await page.getByRole('button', { name: 'Redrive' }).click();
  await page.getByText('It stays where it is').waitFor();
  await turn('stayed');
  await page.reload();
  await page.getByText('would succeed').waitFor();
  await page.getByRole('button', { name: 'Redrive' }).click();
  await page.getByText('No dead letters').waitFor();
  say('done');
}

const VIEWS = ['#/map', '#/map/ID', '#/devices', '#/device/ID', '#/pipeline', '#/dead-letters', '#/dead-letters/LETTER'];

/** No serious fault of accessibility on any view, light and dark, wide and narrow; nothing is cut off on a phone. */
export async function accessible(browser) {
  const { device, letter } = JSON.parse(await turn('ready'));
  const found = [];
  for (const dark of [false, true]) {
    for (const view of VIEWS) {
      const hash = view.replace('ID', device).replace('LETTER', letter);
      const page = await browser.page({ hash, dark, width: dark ? 1280 : 360 });
      await page.locator('main').waitFor();
      await until(`${hash} has something to show`, () =>
        page.evaluate(() => document.querySelector('.loading') === null && document.querySelector('h1, h2') !== null),
      );
      if (!dark) {
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        ensure(wide <= 360, `${hash} is ${wide} wide on a phone of 360`);
      }
      // Read and evaluated, since the page's policy takes no scripts from elsewhere.
      await page.evaluate((await import('node:fs')).readFileSync(axe, 'utf8'));
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
      for (const { id, impact, nodes } of violations) {
        found.push({ view, dark, id, impact, where: nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`).slice(0, 3) });
      }
      await page.context().close();
    }
  }
  const serious = found.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  ensure(serious.length === 0, JSON.stringify(serious, null, 1));
  say('done', { minor: found.map(({ view, id, impact }) => `${view} ${id} ${impact}`) });
}

/** How smooth it is with many devices that all move every second. */
export async function many(browser) {
  const count = Number(await turn('ready'));
  const page = await browser.page();
  await until(`${count} vehicles`, async () => (await page.evaluate(() => window.milepost?.fleet.vehicles.size ?? 0)) === count);
  await drawn(page);
  // One town fills the screen, so that vehicles glide.
  const measure = (seconds) =>
    page.evaluate(async (seconds) => {
      const { map, fleet } = window.milepost;
      const start = performance.now();
      const [frames, version] = [map.layer.frames, fleet.version];
      const gaps = [];
      let last = start;
      // Our own part of a frame; the rest is the map's, and drawing without a graphics card.
      let ours = 0;
      const { render } = map.layer;
      map.layer.render = function timed(...given) {
        const begun = performance.now();
        render.apply(this, given);
        ours += performance.now() - begun;
      };
      await new Promise((done) => {
        const tick = (now) => {
          gaps.push(now - last);
          last = now;
          if (now - start < seconds * 1000) requestAnimationFrame(tick);
          else done();
        };
        requestAnimationFrame(tick);
      });
      map.layer.render = render;
      gaps.sort((a, b) => a - b);
      const took = (performance.now() - start) / 1000;
      const round = (value) => Math.round(value * 10) / 10;
      return {
        frames_per_s: round(gaps.length / took),
        map_frames_per_s: round((map.layer.frames - frames) / took),
        changes_per_s: round((fleet.version - version) / took),
        our_ms_per_frame: round(ours / Math.max(1, map.layer.frames - frames)),
        gap_p99_ms: round(gaps[Math.floor(gaps.length * 0.99)]),
        heap_mb: round(performance.memory.usedJSHeapSize / 1e6),
      };
    }, seconds);
  const world = await measure(10);
  await page.evaluate(() => {
    const { map, fleet } = window.milepost;
    const [vehicle] = fleet.vehicles.values();
    map.base.map.jumpTo({ center: [vehicle.row.longitude, vehicle.row.latitude], zoom: 13 });
  });
  const town = await measure(10);
  // How often rows come depends on the cloud, and one that was built for debugging takes seconds for
  // a look. So the page is fed every second too, with what a stream would bring: text of 5 events.
  await page.evaluate(() => {
    const { map, fleet } = window.milepost;
    const feed = () => {
      const begun = new Date(Date.now() + 5000).toISOString();
      const rows = [...fleet.vehicles.values()].map(({ row }) => ({
        ...row,
        time: begun,
        received_at: begun,
        latitude: row.latitude + 0.000125 * Math.cos((row.heading_deg * Math.PI) / 180),
        longitude: row.longitude + 0.00022 * Math.sin((row.heading_deg * Math.PI) / 180),
      }));
      for (let from = 0; from < rows.length; from += 1000) {
        fleet.apply(JSON.parse(JSON.stringify(rows.slice(from, from + 1000))), performance.now());
      }
      map.changed();
    };
    setInterval(feed, 1000);
  });
  const fed = await measure(20);
  say('measured', { world, town, fed });
  ensure(world.changes_per_s + town.changes_per_s > 0, 'rows still come in');
  ensure(fed.changes_per_s >= 4, 'each of them moves every second');
  ensure(fed.frames_per_s > 5, 'it can be used, even without a graphics card');
  ensure(fed.heap_mb < 400, `memory: ${fed.heap_mb} MB`);
  say('done');
}

/** Pictures for the README. */
export async function pictures(browser) {
  const { device, letter, dir } = JSON.parse(await turn('ready'));
  const take = async (name, hash, { dark = false, width = 1120, height = 640, act } = {}) => {
    const page = await browser.page({ hash, dark, width, height });
    await until(`${hash} has something to show`, () =>
      page.evaluate(() => document.querySelector('.bar') !== null && document.querySelector('.loading') === null),
    );
    if (act) await act(page);
    await page.screenshot({ path: `${dir}/${name}.png` });
    await page.context().close();
  };
  await take('web-map', `#/map/${device}`, {
    act: async (page) => {
      await drawn(page);
      await page.evaluate(() => window.milepost.map.base.map.zoomTo(12.3, { animate: false }));
      // Long enough for trails.
      await until('it drove for a while', () => page.evaluate((id) => window.milepost.fleet.trails.of(id, 0).length > 12, Number(device)), 120_000);
    },
  });
  await take('web-pipeline', '#/pipeline', { height: 560 });
  await take('web-device', `#/device/${device}`, { dark: true, height: 900, act: drawn });
  await take('web-letter', `#/dead-letters/${letter}`, { height: 620 });
  say('done', { base });
}
