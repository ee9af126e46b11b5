// What all views share: who we are, the fleet, whether the cloud speaks, and the clock.

import { get, type Problem } from './api/client.ts';
import { Live } from './api/live.ts';
import type { Me } from './api/types.ts';
import { Cell } from './core/cell.ts';
import { Fleet } from './core/fleet.ts';
import type { Verdict } from './core/stall.ts';

export type Theme = 'light' | 'dark';

const THEME_KEY = 'milepost.theme';
const prefersDark = matchMedia('(prefers-color-scheme: dark)');

export const fleet = new Fleet();
export const me = new Cell<Me | null>(null);
export const verdict = new Cell<Verdict>({ kind: 'connecting' });
export const refused = new Cell<Problem | null>(null);
/** The picture of everything has come. */
export const pictured = new Cell(false);
export const theme = new Cell<Theme>(firstTheme());

/** Told after rows came in, at most once a frame. */
export const onRows = new Set<() => void>();

let skew_ms = 0;
let live: Live | null = null;
let told = false;

/** The cloud's clock, as far as we know it: whose laptop is an hour off still sees right ages. */
export function now(): number {
  return Date.now() + skew_ms;
}

function firstTheme(): Theme {
  let chosen: string | null = null;
  try {
    chosen = localStorage.getItem(THEME_KEY);
  } catch {
    // Not allowed to remember: the system decides.
  }
  if (chosen === 'light' || chosen === 'dark') return chosen;
  return prefersDark.matches ? 'dark' : 'light';
}

export function chooseTheme(chosen: Theme): void {
  theme.set(chosen);
  try {
    localStorage.setItem(THEME_KEY, chosen);
  } catch {
    // It lasts as long as the page.
  }
}

prefersDark.addEventListener('change', () => theme.set(firstTheme()));

/** Asks who we are, then listens. Throws a Problem; 401 means that a token is needed. */
export async function enter(): Promise<void> {
  const asked = Date.now();
  const answer = await get<Me>('/api/v1/me');
  const said = Date.parse(answer.now);
  // Half of the way there and back is a fair guess; less than a second is not worth a correction.
  const off = said - (asked + Date.now()) / 2;
  skew_ms = Number.isFinite(off) && Math.abs(off) > 1000 ? off : 0;
  me.set(answer);
  live?.close();
  live = new Live({
    rows(rows, whole) {
      fleet.apply(rows, performance.now());
      if (whole || rows.length > 0) pictured.set(true);
      tell();
    },
    verdict(now) {
      const before = verdict.get();
      if (now.kind !== before.kind || (now.kind === 'stalled' && before.kind === 'stalled' && now.silent_s !== before.silent_s)) {
        verdict.set(now);
      }
    },
    refused(problem) {
      me.set(null);
      refused.set(problem);
    },
  });
}

function tell(): void {
  if (told) return;
  told = true;
  requestAnimationFrame(() => {
    told = false;
    for (const listener of onRows) listener();
  });
}
