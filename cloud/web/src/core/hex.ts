// A payload as rows of bytes, each byte knowing its note and whether reading stopped there. Pure.

export interface Note {
  from: number;
  to: number;
  what: string;
}

export interface Cell {
  at: number;
  hex: string;
  /** Printable ASCII or a dot. */
  text: string;
  /** Index in the notes, or -1. */
  note: number;
  stop: boolean;
}

export interface HexRow {
  offset: number;
  cells: Cell[];
}

/** Rows of `width` bytes. `hex` may have spaces; a half byte at the end is left out. */
export function rows(hex: string, notes: readonly Note[], stopped_at: number | null, width = 16): HexRow[] {
  const digits = hex.replace(/\s+/g, '');
  const length = Math.floor(digits.length / 2);
  const noteOf = new Int32Array(length).fill(-1);
  // The shortest note wins: it says more about a byte than the one around it.
  const order = notes.map((note, index) => ({ note, index })).sort((a, b) => b.note.to - b.note.from - (a.note.to - a.note.from));
  for (const { note, index } of order) {
    for (let i = Math.max(0, note.from); i < Math.min(length, note.to); i++) noteOf[i] = index;
  }
  const all: HexRow[] = [];
  for (let offset = 0; offset < length; offset += width) {
    const cells: Cell[] = [];
    for (let at = offset; at < Math.min(length, offset + width); at++) {
      const byte = digits.slice(2 * at, 2 * at + 2).toUpperCase();
      const code = parseInt(byte, 16);
      cells.push({
        at,
        hex: byte,
        text: code >= 0x20 && code < 0x7f ? String.fromCharCode(code) : '·',
        note: noteOf[at]!,
        stop: at === stopped_at,
      });
    }
    all.push({ offset, cells });
  }
  return all;
}
