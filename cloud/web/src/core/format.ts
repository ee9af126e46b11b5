// Numbers and times as people read them. Pure; English, and the reader's own time zone where a
// clock time is shown.

const NONE = '–';

export function count(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return Math.round(value).toLocaleString('en-GB').replaceAll(',', '\u202f');
}

export function rate(per_s: number | null | undefined): string {
  if (per_s === null || per_s === undefined || !Number.isFinite(per_s)) return NONE;
  if (per_s === 0) return '0/s';
  return per_s < 10 ? `${per_s.toFixed(1)}/s` : `${count(per_s)}/s`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let amount = value;
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit++;
  }
  return `${unit === 0 || amount >= 100 ? Math.round(amount) : amount.toFixed(1)} ${units[unit]}`;
}

/** A span: "0.3 s", "12 s", "4 min", "3 h 05 min", "2 d 4 h". */
export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const s = Math.max(0, seconds);
  if (s < 9.95) return `${Number(s.toFixed(1))} s`;
  if (s < 90) return `${Math.round(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return `${h} h ${String(min % 60).padStart(2, '0')} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

export function ago(time: string | number | null | undefined, now_ms: number): string {
  if (time === null || time === undefined) return 'never';
  const at = typeof time === 'number' ? time : Date.parse(time);
  if (!Number.isFinite(at)) return 'never';
  const s = (now_ms - at) / 1000;
  if (s < -2) return `in ${span(-s)}`;
  return s < 2 ? 'now' : `${span(Math.round(s))} ago`;
}

export function days(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value >= 10) return `${Math.floor(value)} days`;
  return value === 1 ? '1 day' : `${Number(value.toFixed(1))} days`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

/** "14:02:11", local. */
export function clock(time: string | number): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return NONE;
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** "2026-11-22 14:02:11", local. */
export function moment(time: string | number | null | undefined): string {
  if (time === null || time === undefined) return NONE;
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return NONE;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(at.getTime())}`;
}

/** What `<input type="datetime-local">` holds, local, to the minute. */
export function localInput(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}T${pad(at.getHours())}:${pad(at.getMinutes())}`;
}

const COMPASS = ['north', 'north-east', 'east', 'south-east', 'south', 'south-west', 'west', 'north-west'];

export function heading(deg: number | null | undefined): string {
  if (deg === null || deg === undefined) return NONE;
  return `${deg}° ${COMPASS[Math.round((((deg % 360) + 360) % 360) / 45) % 8]}`;
}

export function position(latitude: number, longitude: number): string {
  return `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
}

export function yesNo(value: boolean | null | undefined): string {
  return value === null || value === undefined ? NONE : value ? 'on' : 'off';
}
