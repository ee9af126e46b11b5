// The token: out of the address once, then in this tab's storage, never in an address again.

import { takeToken } from '../core/route.ts';

const KEY = 'milepost.token';

/** Call before anything reads the address. */
export function adoptToken(): void {
  const { token, rest } = takeToken(location.hash);
  if (token === null) return;
  remember(token);
  history.replaceState(null, '', location.pathname + location.search + rest);
}

export function token(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return kept;
  }
}

/** Where storage is forbidden the token lives as long as the page. */
let kept: string | null = null;

export function remember(value: string | null): void {
  kept = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // Kept in memory, then.
  }
}

export function headers(): Record<string, string> {
  const value = token();
  return value === null ? {} : { Authorization: `Bearer ${value}` };
}
