// Commands of one device: what was sent, what became of it, and a field for the next one.

import { useState } from 'preact/hooks';

import { get, post, type Problem } from '../api/client.ts';
import type { Command, Page } from '../api/types.ts';
import { canCancel, meaning } from '../core/command.ts';
import * as format from '../core/format.ts';
import { me, now } from '../state.ts';
import { asProblem, useAsked, useCell } from './hooks.ts';
import { Empty, Loading, Pill, Trouble } from './parts.tsx';

/** A tracker takes this many bytes (docs/commands.md). */
const BYTES_MAX = 4096;

export function Commands({ id, hasImei }: { id: number; hasImei: boolean }) {
  const operator = useCell(me)?.role === 'operator';
  const asked = useAsked<Page<Command>>(`commands ${id}`, (signal) => get(`/api/v1/devices/${id}/commands?limit=20`, signal), 1500);
  const [text, setText] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [said, setSaid] = useState('');

  const act = async (what: () => Promise<unknown>, done: string) => {
    setBusy(true);
    setProblem(null);
    try {
      await what();
      setSaid(done);
      asked.again();
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  const send = (event: Event) => {
    event.preventDefault();
    const line = text.trim();
    if (line === '') return;
    void act(async () => {
      await post<Command>(`/api/v1/devices/${id}/commands`, { text: line });
      setText('');
    }, `${line} is queued`);
  };
  const long = new TextEncoder().encode(text).length > BYTES_MAX;
  return (
    <section class="card" aria-labelledby="commands-title">
      <h2 id="commands-title">Commands</h2>
      {!hasImei ? (
        <p class="quiet">Only devices with an IMEI take commands.</p>
      ) : operator ? (
        <form class="send" onSubmit={send}>
          <label>
            Text, as the tracker reads it
            <input value={text} placeholder="getinfo" autocomplete="off" spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} />
          </label>
          <button type="submit" disabled={busy || text.trim() === '' || long}>
            Send
          </button>
          {long && <p class="fault">A tracker takes {BYTES_MAX} bytes at most: shorten it.</p>}
        </form>
      ) : (
        <p class="quiet">Sending one needs a token with the role operator.</p>
      )}
      <p class="hidden" role="status">
        {said}
      </p>
      {problem && <Trouble problem={problem} />}
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      {asked.loading && <Loading what="its commands" />}
      {asked.data &&
        (asked.data.items.length === 0 ? (
          <Empty title="No command yet">
            <p>
              {operator ? 'Send one above; ' : 'When somebody sends one, '}
              <code>getinfo</code> harms nothing. If the tracker is away, a command waits for it up to a day.
            </p>
          </Empty>
        ) : (
          <ul class="commands">
            {asked.data.items.map((command) => (
              <CommandLine
                key={command.id}
                command={command}
                cancel={operator && canCancel(command.state) ? () => void act(() => post(`/api/v1/commands/${command.id}/cancel`), 'Cancelled') : null}
              />
            ))}
          </ul>
        ))}
    </section>
  );
}

function CommandLine({ command, cancel }: { command: Command; cancel: (() => void) | null }) {
  const { text, tone } = meaning(command.state);
  return (
    <li data-state={command.state}>
      <p>
        <code class="said">{command.text}</code> <Pill tone={tone}>{command.state}</Pill>{' '}
        <small title={format.moment(command.created_at)}>{format.ago(command.created_at, now())}</small>
        {cancel && (
          <button type="button" class="small" onClick={cancel}>
            Cancel
          </button>
        )}
      </p>
      {command.response !== null ? (
        <p class="reply">
          <span class="quiet">reply</span> <code>{command.response}</code>
        </p>
      ) : (
        <p class="quiet">
          {text}
          {command.reason ? `: ${command.reason}` : ''}
        </p>
      )}
    </li>
  );
}
