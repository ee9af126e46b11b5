// Questions to the cloud. Every failure becomes a Problem in words: what, why, what to do.

import { parseJson } from '../core/json.ts';
import { headers } from './session.ts';
import type { Page } from './types.ts';

/** Nothing here takes longer than this unless something is wrong. */
const PATIENCE_MS = 15_000;

export class Problem extends Error {
  readonly status: number;
  readonly code: string | null;
  readonly why: string;
  readonly todo: string;

  constructor(what: string, why: string, todo: string, status = 0, code: string | null = null) {
    super(what);
    this.status = status;
    this.code = code;
    this.why = why;
    this.todo = todo;
  }
}

interface ProblemBody {
  title?: string;
  detail?: string;
  code?: string;
}

const TODO: Record<number, string> = {
  401: 'Give a token: `cloud web token new NAME --role read` prints one.',
  403: 'Ask for a token with the role operator: `cloud web token new NAME --role operator`.',
  404: 'Go back to the list and pick it again.',
  429: 'Wait a moment, then try again.',
  503: '`cloud check` on the server names what is missing.',
};

/** Pure: what a refusal says. */
export function problemOf(status: number, body: ProblemBody | null): Problem {
  const what = body?.title ?? `The cloud answered ${status}`;
  const why = body?.detail ?? (status >= 500 ? 'Something went wrong in the cloud itself.' : 'It gave no reason.');
  const todo = TODO[status] ?? (status >= 500 ? 'Try again; the log of the cloud says more.' : 'Change what was asked for and try again.');
  return new Problem(what, why, todo, status, body?.code ?? null);
}

export function unreachable(): Problem {
  return new Problem(
    'The cloud does not answer',
    'No connection to the server this page came from: it is stopped, or the network between is.',
    'This page keeps trying. On the server, `systemctl status milepost-cloud` or `cloud status` says more.',
  );
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      ...init,
      headers: { ...headers(), ...(init.headers as Record<string, string> | undefined) },
      signal: init.signal ?? AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw unreachable();
  }
  if (!answer.ok) throw problemOf(answer.status, await bodyOf(answer));
  return answer;
}

/** What a refusal has to say, if it is one of ours. */
export async function bodyOf(answer: Response): Promise<ProblemBody | null> {
  try {
    return (await answer.json()) as ProblemBody;
  } catch {
    return null;
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return parseJson(await (await ask(path, signal ? { signal } : {})).text()) as T;
}

export async function post<T>(path: string, value?: unknown): Promise<T | null> {
  const init: RequestInit = { method: 'POST' };
  if (value !== undefined) {
    init.body = JSON.stringify(value);
    init.headers = { 'Content-Type': 'application/json' };
  }
  const text = await (await ask(path, init)).text();
  return text === '' ? null : (JSON.parse(text) as T);
}

/** Every page of a list, one after the other, up to `most` items. */
export async function all<T>(path: string, most: number, signal?: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  let after: string | null = null;
  do {
    const join = path.includes('?') ? '&' : '?';
    const next: string = after === null ? '' : `&after=${encodeURIComponent(after)}`;
    const page: Page<T> = await get(`${path}${join}limit=5000${next}`, signal);
    items.push(...page.items);
    after = page.next;
  } while (after !== null && items.length < most);
  return items;
}

/** Saves what `path` answers as a file. Not a link, because a link cannot carry the token. */
export async function download(path: string, name: string): Promise<void> {
  // A track of a month takes as long as it takes.
  const answer = await ask(path, { signal: new AbortController().signal });
  const url = URL.createObjectURL(await answer.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
