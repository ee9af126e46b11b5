// node run.mjs SCENARIO. Environment: MILEPOST_URL of the cloud, MILEPOST_CHROMIUM, and MILEPOST_WEB_DIR
// where the npm packages are; MILEPOST_PICTURES takes a picture of a page on which something failed. Speaks JSON, one object a line; exit code 1 when a promise was broken.
import { Browser, ensure, finished } from './page.mjs';
import * as scenarios from './scenarios.mjs';

const scenario = scenarios[process.argv[2] ?? ''];
if (!scenario) {
  console.error(`no such scenario: ${process.argv[2]}; there are ${Object.keys(scenarios).join(', ')}`);
  process.exit(2);
}
const browser = await Browser.open();
try {
  await scenario(browser);
  ensure(browser.faults.length === 0, browser.faults.join('\n'));
} catch (error) {
  console.error(error.stack);
  if (browser.faults.length > 0) console.error(browser.faults.join('\n'));
  await browser.lastLook(`failed-${process.argv[2]}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  finished();
}
