// What the states of a command mean, in words, as docs/commands.md has them. Pure.

export interface Meaning {
  text: string;
  tone: 'wait' | 'good' | 'bad';
  over: boolean;
}

const MEANINGS: Record<string, Meaning> = {
  queued: { text: 'waits for its tracker, or behind another command', tone: 'wait', over: false },
  routed: { text: 'given to the gateway', tone: 'wait', over: false },
  sent: { text: 'sent to the tracker, no reply yet', tone: 'wait', over: false },
  acked: { text: 'the tracker replied', tone: 'good', over: true },
  nacked: { text: 'refused or cancelled', tone: 'bad', over: true },
  timeout: { text: 'no reply in time; the tracker may have obeyed', tone: 'bad', over: true },
  expired: { text: 'its time was over before the tracker came', tone: 'bad', over: true },
  unknown: { text: 'nobody can tell whether it arrived: you decide whether to send it again', tone: 'bad', over: true },
};

export function meaning(state: string): Meaning {
  return MEANINGS[state] ?? { text: 'a state this page does not know; reload it', tone: 'wait', over: false };
}

/** What only waits can still be taken back. */
export function canCancel(state: string): boolean {
  return state === 'queued';
}
