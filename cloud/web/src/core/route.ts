// Addresses inside the app, behind the `#`. Pure. They need nothing from the server but one page.

export type Route =
  | { view: 'map'; device: number | null }
  | { view: 'devices' }
  | { view: 'device'; id: number }
  | { view: 'pipeline' }
  | { view: 'letters'; id: number | null };

export function parseRoute(hash: string): Route {
  const [path = ''] = hash.replace(/^#\/?/, '').split('?');
  const [head = '', tail] = path.split('/');
  const id = tail !== undefined && /^\d{1,15}$/.test(tail) ? Number(tail) : null;
  switch (head) {
    case 'devices':
      return { view: 'devices' };
    case 'device':
      return id === null ? { view: 'devices' } : { view: 'device', id };
    case 'pipeline':
      return { view: 'pipeline' };
    case 'dead-letters':
      return { view: 'letters', id };
    default:
      return { view: 'map', device: head === 'map' ? id : null };
  }
}

/** The token of `#token=…`, and what of the address may stay. */
export function takeToken(hash: string): { token: string | null; rest: string } {
  const parts = hash.replace(/^#/, '').split('&');
  const token = parts.find((part) => part.startsWith('token='));
  if (token === undefined) return { token: null, rest: hash };
  const rest = parts.filter((part) => part !== token).join('&');
  let value = token.slice('token='.length);
  try {
    value = decodeURIComponent(value);
  } catch {
    // As it stands, then: the cloud will say that it does not know it.
  }
  return { token: value === '' ? null : value, rest: rest === '' ? '' : `#${rest}` };
}
