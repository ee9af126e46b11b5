// What is shown before the cloud knows who we are.

import { useState } from 'preact/hooks';

import type { Problem } from '../api/client.ts';
import { remember } from '../api/session.ts';
import { Trouble } from './parts.tsx';

export function Door({ problem, again }: { problem: Problem; again(): void }) {
  const [text, setText] = useState('');
  if (problem.status !== 401 && problem.status !== 403) {
    return (
      <main class="door" id="main">
        <h1>Milepost</h1>
        <Trouble problem={problem} again={again} />
      </main>
    );
  }
  const submit = (event: Event) => {
    event.preventDefault();
    remember(text.trim());
    again();
  };
  return (
    <main class="door" id="main">
      <h1>Milepost</h1>
      <p>This cloud shows its devices to those who have a token.</p>
      <form onSubmit={submit}>
        <label>
          Token
          <input type="password" autocomplete="current-password" required value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <button type="submit" class="primary">
          Enter
        </button>
      </form>
      <p class="quiet">{problem.why}</p>
      <details>
        <summary>I have no token</summary>
        <p>
          On the server, <code>cloud web token new NAME --role read</code> prints a token and the line for the file that <code>web.tokens</code> in{' '}
          <code>cloud.toml</code> names. With <code>--role operator</code> it may also send commands and redrive dead letters.
        </p>
        <p>
          For a machine of your own, <code>web.open = "read"</code> opens the page to that machine alone, without tokens.
        </p>
      </details>
    </main>
  );
}
